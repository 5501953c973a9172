"""UnSplit's label attack: try every label on a clone of the head, keep the one whose gradient fits best."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vfl.attacks import Guess, Needs
from vfl.attacks._heads import batches, dense
from vfl.attacks._replay import by_prior, replayed
from vfl.attacks._scored import scorable
from vfl.errors import ThreatError
from vfl.transcript import AdversaryView
from vfl.types import Kind


@dataclass(frozen=True)
class UnsplitLabel:
    """Names each row's class as the candidate whose gradient on a cloned linear head is nearest to the one received.

    The attacker is a publisher that knows the label's owner keeps one linear layer, and clones it on its own embedding
    alone. For `steps` batches of 512 it picks the best candidate for each row, then moves the clone towards the
    gradients of its picks. The classes' names follow from the granted prior: the commonest pick is the commonest class.
    The last epoch seen of each row is replayed.

    Reference: E. Erdogan, A. Kupcu, A. E. Cicek, UnSplit: Data-Oblivious Model Inversion, Model Stealing, and Label
    Inference Attacks Against Split Learning, WPES at CCS 2022, https://arxiv.org/abs/2108.09033

    The paper has batches of one row and a head that sees all embeddings; here other parties' embeddings are unknown to
    the clone, whose prediction is off by what they add.
    """

    steps: int = 400

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps: got {self.steps}, allowed any whole number from 1; a few hundred suffice")

    @property
    def needs(self) -> Needs:
        """Sent embeddings, received gradients, and the class prior."""
        return Needs(received=frozenset({Kind.GRADIENT}), sent=frozenset({Kind.EMBEDDING}), prior=True)

    def infer(self, view: AdversaryView, rng: torch.Generator) -> Guess:
        """Return `(n, classes)` scores, less misfit being more; raises `ThreatError` without a prior."""
        if view.hints.prior is None:
            raise ThreatError("needs the class prior; set threat.hints.prior=true", key="threat.hints.prior")
        seen, h = replayed(view)
        g, classes = seen.body.float(), view.classes
        unit = g.square().sum(dim=1).mean().sqrt().clamp(min=1e-30)
        spread = h.std(dim=0).clamp(min=1e-6)
        x, g = (h - h.mean(dim=0)) / spread, g / unit
        clone = dense([x.shape[1], classes], rng)
        optimizer = torch.optim.Adam(clone.parameters(), lr=0.01)
        for places in batches(len(x), 512, self.steps, rng):
            misfit = _misfits(clone, x[places], g[places], classes)
            loss = misfit.min(dim=1).values.mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            scores = -_misfits(clone, x, g, classes)
        kept = scorable(view, seen, 0)
        named = scores[:, by_prior(scores.argmax(dim=1), view.hints.prior)]
        return Guess("labels", torch.zeros_like(seen.rows[kept]), seen.rows[kept], named[kept])


def _misfits(clone: nn.Module, x: Tensor, g: Tensor, classes: int) -> Tensor:
    """Return the squared distance of each candidate label's gradient to the one received, `(rows, classes)`."""
    weight = clone[0].weight  # pyright: ignore[reportIndexIssue] - one linear layer
    residues = clone(x).softmax(dim=1)
    found: list[Tensor] = []
    for label in range(classes):
        hot = nn.functional.one_hot(torch.tensor(label), classes).float()
        found.append(((residues - hot) @ weight - g).square().sum(dim=1))
    return torch.stack(found, dim=1)
