"""Returned scores: what any deployment gives away that hands the joint model's scores to a publisher."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from vfl.attacks import Guess, Needs
from vfl.transcript import AdversaryView


@dataclass(frozen=True)
class ScoreLeakage:
    """Guesses the labels of test rows by the joint model's own scores, where the threat model returns them.

    This is no attack on training but the floor under all of them: its leak AUC is the model's test AUC, so a
    publisher that is told scores needs no other way to the labels.
    """

    @property
    def needs(self) -> Needs:
        """The returned scores."""
        return Needs(scores=True)

    def infer(self, view: AdversaryView, rng: torch.Generator) -> Guess:
        """Return the `(m, classes)` scores of test rows as they were returned."""
        del rng
        kept = ~torch.isin(view.hints.score_rows, view.hints.rows)
        rows = view.hints.score_rows[kept]
        return Guess("labels", torch.zeros_like(rows), rows, view.hints.scores[kept])
