"""Averaging over epochs: what a defense draws afresh for every round cancels out over the rounds of a row."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from vfl.attacks import Guess, Needs
from vfl.transcript import AdversaryView, Pooled
from vfl.types import Kind


@dataclass(frozen=True)
class Averaging:
    """Scores each row by how its mean gradient over the whole run points along those of a few rows of known label.

    It is the attacker that knows the defense: noise that leaves gradients right on average (Gaussian, Laplace,
    max_norm's stretches and flips of sign, Marvell's), and mixing with partners drawn anew (mixpro), fade as one over
    the root of the rounds a row took part in. All batches are pooled, so a score compares rows of different batches.
    The attacker is a publisher that knows the labels of `hints` rows; the score is the cosine of a row's mean gradient
    and of the known rows' signed mean, or of each class's where there are more than two. Known rows are not scored.
    Against a defense that draws once for all rounds (labels randomised before training) it gains nothing.

    That repeated noise averages out is the first fact of differential privacy's composition (C. Dwork, A. Roth, The
    Algorithmic Foundations of Differential Privacy, 2014, https://doi.org/10.1561/0400000042); the attack is ours.
    """

    hints: int = 1

    def __post_init__(self) -> None:
        if self.hints < 1:
            raise ValueError(f"hints: got {self.hints}, allowed any whole number from 1; more of them are surer")

    @property
    def needs(self) -> Needs:
        """Received gradients and `hints` labelled rows."""
        return Needs(received=frozenset({Kind.GRADIENT}), labelled_rows=self.hints)

    def infer(self, view: AdversaryView, rng: torch.Generator) -> Guess:
        """Return scores from -1 to 1 of each row that was not hinted, above two classes one a class; draws nothing."""
        del rng
        rows, means = averaged(view.gradients().unscaled())
        known = torch.isin(rows, view.hints.rows)
        order = view.hints.rows.argsort()
        labels = view.hints.labels[order][torch.searchsorted(view.hints.rows[order], rows[known])]
        weights = functional.one_hot(labels, view.classes).double()
        if view.classes == 2:
            weights = weights[:, 1:] - weights[:, :1]
        directions = functional.normalize(weights.T @ means[known], dim=1)
        scores = (functional.normalize(means, dim=1) @ directions.T).squeeze(1)
        kept = ~known if bool((~known).any()) else known
        return Guess("labels", torch.zeros_like(rows[kept]), rows[kept], scores[kept])


def averaged(seen: Pooled) -> tuple[Tensor, Tensor]:
    """Return the handles that were seen, in order, and each one's mean over its rounds, `(n, dim)`."""
    rows, place, counts = torch.unique(seen.rows, return_inverse=True, return_counts=True)
    means = torch.zeros(len(rows), seen.body.shape[1], dtype=torch.float64)
    means.index_add_(0, place, seen.body.double())
    return rows, means / counts[:, None]
