"""Each row's last round as a publisher saw it: what it sent and the gradient that came back."""

from __future__ import annotations

import torch
from torch import Tensor

from vfl.transcript import AdversaryView, Pooled


def replayed(view: AdversaryView) -> tuple[Pooled, Tensor]:
    """Return the last gradient each row received, for each row's own loss, and `(n, dim)` the embeddings it answers."""
    seen = view.gradients().unscaled().last()
    return seen, _answered(view, seen)


def replayed_steps(view: AdversaryView, aligned: int) -> tuple[Pooled, Tensor]:
    """Return every gradient received for handles below `aligned`, unscaled, and the embeddings they answer."""
    seen = view.gradients().unscaled().below(aligned)
    return seen, _answered(view, seen)


def _answered(view: AdversaryView, seen: Pooled) -> Tensor:
    sent = view.embeddings()
    span = int(torch.cat([sent.rows, seen.rows, seen.rows.new_zeros(1)]).max()) + 1
    keys, order = (sent.steps * span + sent.rows).sort()
    place = torch.searchsorted(keys, seen.steps * span + seen.rows).clamp(max=max(len(keys) - 1, 0))
    return sent.body[order[place]].float()


def by_prior(picked: Tensor, prior: Tensor) -> Tensor:
    """Return for each class the pick that stands for it, `(classes,)`: as common among `picked` as it is by `prior`."""
    counts = torch.bincount(picked, minlength=len(prior))
    found = torch.empty_like(counts)
    found[prior.argsort(descending=True, stable=True)] = counts.argsort(descending=True, stable=True)
    return found
