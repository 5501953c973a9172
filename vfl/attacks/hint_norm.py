"""The hint-distance attack: a row is like the known row whose gradient lies nearest."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vfl.attacks import Guess, Needs
from vfl.attacks._scored import grants_all, scorable
from vfl.transcript import AdversaryView, Hints, Pooled
from vfl.types import Kind

MOST = 64


@dataclass(frozen=True)
class HintNorm:
    """Scores each received gradient by its distance to those that rows of known label received.

    The attacker is a publisher that knows the labels of `hints` >= 1 rows. In each batch a known row stands in with
    the gradient it received nearest in time; with d_c the distance to the nearest known row of class c, the score is
    d_0 - d_1, or -d_1 (d_0) where only class 1 (class 0) is known. Known rows are not scored.

    A view that grants all labels (the referee's upper bound) is used by halves: rows with even handles are scored by
    64 known rows with odd ones, and the other way round.

    Reference: O. Li, J. Sun, X. Yang, W. Gao, H. Zhang, J. Xie, V. Smith, C. Wang, Label Leakage and Protection in
    Two-party Split Learning, ICLR 2022, https://arxiv.org/abs/2102.08504

    The paper knows positive rows only, one in each batch; here known rows may be of either class and are known once
    for the whole run.
    """

    hints: int = 1

    def __post_init__(self) -> None:
        if self.hints < 1:
            raise ValueError(f"hints: got {self.hints}, allowed any whole number from 1; the paper has 1 to 5")

    @property
    def needs(self) -> Needs:
        """Received gradients and `hints` labelled rows."""
        return Needs(received=frozenset({Kind.GRADIENT}), labelled_rows=self.hints, binary_only=True)

    def infer(self, view: AdversaryView, rng: torch.Generator) -> Guess:
        """Return one score for each received gradient row not hinted; draws nothing from `rng`."""
        del rng
        seen = view.gradients().unscaled()
        scores = torch.zeros(len(seen.rows), dtype=torch.float64)
        for known, scored in self._parts(view, seen):
            scores = torch.where(scored, _scores(seen, known), scores)
        kept = scorable(view, seen, self.hints)
        return Guess("labels", seen.steps[kept], seen.rows[kept], scores[kept])

    def _parts(self, view: AdversaryView, seen: Pooled) -> list[tuple[Hints, Tensor]]:
        hints = view.hints
        if not grants_all(view, seen, self.hints):
            every = torch.ones_like(seen.rows, dtype=torch.bool)
            return [(Hints(hints.rows[: self.hints], hints.labels[: self.hints]), every)]
        halves = [hints.rows % 2 != half for half in (0, 1)]
        return [
            (Hints(hints.rows[half][:MOST], hints.labels[half][:MOST]), seen.rows % 2 == place)
            for place, half in enumerate(halves)
        ]


def _scores(seen: Pooled, known: Hints) -> Tensor:
    """Return the `(n,)` scores of all entries, a batch at a time: its distances to all known rows stay in the cache."""
    body, (steps, sizes) = seen.body.double(), torch.unique_consecutive(seen.steps, return_counts=True)
    shown = [(seen.rows == row).nonzero()[:, 0] for row in known.rows.tolist()]
    received = [place for place, each in enumerate(shown) if len(each)]
    labels = known.labels[received]
    near = [_nearest(shown[place], seen.steps, steps) for place in received]
    scores = torch.zeros(len(body), dtype=torch.float64)
    if near:
        batches = zip(body.split(sizes.tolist()), torch.stack(near, dim=1), scores.split(sizes.tolist()), strict=True)
        for batch, entries, found in batches:
            distance = torch.stack([(batch - body[entry]).norm(dim=1) for entry in entries])
            for label, sign in ((0, 1), (1, -1)):
                if bool((labels == label).any()):
                    found += sign * distance[labels == label].amin(dim=0)
    return scores


def _nearest(shown: Tensor, times: Tensor, steps: Tensor) -> Tensor:
    """Return, for each of the `(b,)` steps, which of a row's `(m,)` entries is nearest to it in time."""
    at = times[shown]
    return shown[torch.searchsorted(at[1:] + at[:-1], 2 * steps)]
