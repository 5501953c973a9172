"""Which rows a publisher that tampers takes to be of one class, by the gradients that come back to it.

No label is granted: the row whose gradient is the longest in the first rounds stands for a class, and rows pushed the
same way are taken to be of it. Where one class is rare its rows have the long gradients, so that is the class. Which it
turned out to be, the referee looks up.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vfl.attacks import State
from vfl.transcript import AdversaryView

ALIKE = 0.7
"""A cosine from which two gradients are taken to push the same way."""

FOLLOWED = 0.1
"""How far the direction of the class turns in a round to where its rows are pushed now: the joint model moves on."""

REMEMBERED = 4096
"""Rows taken to be of the class that are kept in mind, the latest."""

SERVED = 0.5
"""Share of rows that are tampered with when they are served, so that as many are left to compare with."""


def watching(state: State, watch: int) -> bool:
    """Whether the first `watch` rounds, in which nothing is done, are not over."""
    return int(state.get("seen", torch.tensor(0))) < watch


def learned(state: State, gradient: Tensor, sent: Tensor | None, rows: Tensor, watch: int) -> State:
    """Return the state after a round of `(rows, dim)` gradients that answered the embeddings `sent` about `rows`.

    `direction` `(dim,)` is the gradient of the row that stands for the class, `embedding` `(dim,)` what was sent about
    the row of the class that the joint model was surest of, `alike` `(k,)` the handles taken to be of the class.
    """
    seen = int(state.get("seen", torch.tensor(0)))
    now = {**state, "seen": torch.tensor(seen + 1)}
    unscaled = gradient.double() * len(gradient)
    lengths = unscaled.norm(dim=1)
    if sent is None or not len(lengths):
        return now
    if seen < watch:
        place = int(lengths.argmax())
        if float(lengths[place]) > float(state.get("longest", torch.tensor(0.0))):
            direction = unscaled[place] / lengths[place]
            now |= {"longest": lengths[place], "direction": direction, "embedding": sent[place].clone()}
        return now
    if "direction" not in state:
        return now
    same = alike(state["direction"], unscaled)
    known = state.get("alike", rows[:0])
    kept = known[~torch.isin(known, rows)]
    now["alike"] = torch.cat([kept, rows[same]])[-REMEMBERED:]
    if bool(same.any()):
        surest = torch.where(same, lengths, torch.inf).argmin()
        now["embedding"] = sent[surest].clone()
        turned = FOLLOWED * (unscaled[same] / lengths[same, None]).mean(dim=0) + (1 - FOLLOWED) * state["direction"]
        now["direction"] = turned / turned.norm()
    return now


def alike(direction: Tensor, gradients: Tensor) -> Tensor:
    """Return the `(rows,)` mask of gradients that push as `direction` does."""
    lengths = gradients.norm(dim=1)
    cosines = (gradients.double() @ direction.double()) / lengths.clamp(min=torch.finfo(torch.float64).tiny)
    return (lengths > 0) & (cosines >= ALIKE)


def reference_row(view: AdversaryView, watch: int) -> int:
    """Return the handle of the row that stood for the class, from what the publisher received; -1 where it got none."""
    seen = view.gradients().unscaled()
    first = torch.isin(seen.steps, seen.steps.unique()[:watch])
    lengths = seen.body[first].double().norm(dim=1)
    return int(seen.rows[first][int(lengths.argmax())]) if len(lengths) else -1
