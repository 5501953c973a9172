"""The gradient-direction attack: rows of one class are pushed the same way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from vfl.attacks import Guess, Needs
from vfl.attacks._scored import grants_all, scorable
from vfl.transcript import AdversaryView, Hints, Pooled
from vfl.types import Kind


@dataclass(frozen=True)
class Direction:
    """Scores each received gradient by its cosine with those that a few rows of known label received.

    The attacker is a publisher that knows the labels of `hints` >= 1 rows. For each batch every known row stands in
    with the gradient it received nearest in time (the earlier of two as near), and the score is the mean over known
    rows of sign(label) * cosine, the sign being + for class 1 and - for class 0. A gradient of zero scores 0 and is
    never a reference. Known rows are not scored.

    A view that grants more labels is used down to the first `hints`; one that grants all of them (the referee's upper
    bound) is used in full: rows with even handles are scored by those with odd ones, and the other way round.

    Reference: O. Li, J. Sun, X. Yang, W. Gao, H. Zhang, J. Xie, V. Smith, C. Wang, Label Leakage and Protection in
    Two-party Split Learning, ICLR 2022, https://arxiv.org/abs/2102.08504

    With `measure` `inner_product` the score is the inner product instead of the cosine: long gradients count for more.

    The paper grants a gradient of one positive row in each batch, before noise. Here the known rows may be of either
    class, are known once for the whole run, and are seen through the defense like any other.
    """

    hints: int = 1
    measure: Literal["cosine", "inner_product"] = "cosine"

    def __post_init__(self) -> None:
        if self.measure not in ("cosine", "inner_product"):
            raise ValueError(f"measure: got {self.measure!r}, allowed 'cosine' or 'inner_product'; the first is usual")
        if self.hints < 1:
            raise ValueError(f"hints: got {self.hints}, allowed any whole number from 1; 1 is the paper's attack")

    @property
    def needs(self) -> Needs:
        """Received gradients and `hints` labelled rows."""
        return Needs(received=frozenset({Kind.GRADIENT}), labelled_rows=self.hints, binary_only=True)

    def infer(self, view: AdversaryView, rng: torch.Generator) -> Guess:
        """Return one score for each received gradient row not hinted, a cosine's from -1 to 1; draws nothing."""
        del rng
        seen = view.gradients() if self.measure == "cosine" else view.gradients().unscaled()
        body = seen.body.double()
        norms = body.norm(dim=1, keepdim=True)
        units = torch.where(norms > 0, body / norms, 0.0) if self.measure == "cosine" else body
        _, batch = torch.unique_consecutive(seen.steps, return_inverse=True)
        scores = units.new_zeros(len(units))
        for known, scored in self._parts(view, seen):
            signs = torch.where(norms[:, 0] > 0, _signs(seen.rows, known), 0.0)
            means = _references(seen, units, signs)
            scores = torch.where(scored, (units * means[batch]).sum(dim=1), scores)
        kept = scorable(view, seen, self.hints)
        return Guess("labels", seen.steps[kept], seen.rows[kept], scores[kept])

    def _parts(self, view: AdversaryView, seen: Pooled) -> list[tuple[Hints, Tensor]]:
        """Return known rows with the entries `(n,)` they score: all entries, or with all labels each half the other.

        Halves are even and odd handles, which are shuffled. Scoring each row by all others instead would not do: the
        total that a row is compared with would lack just that row's own sign, and tied rows rank by it.
        """
        if not grants_all(view, seen, self.hints):
            return [(_chosen(view.hints, slice(self.hints)), torch.ones_like(seen.rows, dtype=torch.bool))]
        return [(_chosen(view.hints, view.hints.rows % 2 != half), seen.rows % 2 == half) for half in (0, 1)]


def _chosen(hints: Hints, which: slice | Tensor) -> Hints:
    return Hints(hints.rows[which], hints.labels[which])


def _signs(rows: Tensor, known: Hints) -> Tensor:
    """Return `(n,)`: +1 or -1 where the row's label is known, 0 elsewhere."""
    if len(known.rows) == 0:
        return torch.zeros(len(rows), dtype=torch.float64)
    handles, order = known.rows.sort(stable=True)
    place = torch.searchsorted(handles, rows).clamp(max=len(handles) - 1)
    sign = 2.0 * known.labels[order][place].double() - 1.0
    return torch.where(handles[place] == rows, sign, 0.0)


def _references(seen: Pooled, units: Tensor, signs: Tensor) -> Tensor:
    """Return each batch's mean signed reference, `(batches, dim)`.

    An appearance of a known row serves the batches nearest to it in time, which are consecutive: it is added at the
    first and taken off after the last, and running sums give every batch its total. So the cost does not grow with
    the number of known rows times the number of batches.
    """
    steps = seen.steps.unique()
    shown = signs.nonzero()[:, 0]
    shown = shown[seen.rows[shown].argsort(stable=True)]
    rows, times = seen.rows[shown], seen.steps[shown]
    again = rows[1:] == rows[:-1]
    turn = torch.searchsorted(2 * steps, times[1:] + times[:-1], right=True)
    first, last = torch.zeros_like(shown), torch.full_like(shown, len(steps))
    first[1:] = torch.where(again, turn, first[1:])
    last[:-1] = torch.where(again, turn, last[:-1])
    signed = units[shown] * signs[shown, None]
    change = units.new_zeros(len(steps) + 1, units.shape[1])
    change.index_add_(0, first, signed).index_add_(0, last, -signed)
    count = len(rows) - int(again.sum())
    return change.cumsum(dim=0)[:-1] / max(count, 1)
