"""The likelihood-ratio attack: the best test there is between two Gaussians, with moments from known rows."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vfl.attacks import Guess, Needs
from vfl.attacks._scored import grants_all, scorable
from vfl.transcript import AdversaryView
from vfl.types import Kind


@dataclass(frozen=True)
class LikelihoodRatio:
    """Scores each received gradient by log N(g; mean_1, cov_1) - log N(g; mean_0, cov_0).

    The attacker is a publisher that knows the labels of `hints` >= 2 rows, and takes each class's mean and covariance
    from the gradients they received over the whole run (times the batch size). Covariances are shrunk: the share
    `shrink` (0 to 1) goes to a multiple of the identity of the same trace, and more where entries are fewer than
    dimensions. A class without a known row takes the moments of all rows. Known rows are not scored.

    With all labels (the referee's upper bound) it is the test that no other beats on the Gaussian model, fitted on one
    half of the rows and applied to the other: the attacker that Marvell's bound on the leak AUC speaks of.

    Reference: O. Li, J. Sun, X. Yang, W. Gao, H. Zhang, J. Xie, V. Smith, C. Wang, Label Leakage and Protection in
    Two-party Split Learning, ICLR 2022, https://arxiv.org/abs/2102.08504 (the optimal attacker of the analysis; the
    estimated moments are ours)
    """

    hints: int = 10
    shrink: float = 0.05

    def __post_init__(self) -> None:
        if self.hints < 2:
            raise ValueError(f"hints: got {self.hints}, allowed any whole number from 2; one of each class at least")
        if not 0 <= self.shrink <= 1:
            raise ValueError(f"shrink: got {self.shrink}, allowed from 0 to 1; 0.05 steadies the covariance")

    @property
    def needs(self) -> Needs:
        """Received gradients and `hints` labelled rows."""
        return Needs(received=frozenset({Kind.GRADIENT}), labelled_rows=self.hints, binary_only=True)

    def infer(self, view: AdversaryView, rng: torch.Generator) -> Guess:
        """Return one log likelihood ratio for each received gradient row not hinted; draws nothing from `rng`."""
        del rng
        seen = view.gradients().unscaled()
        body, labels = seen.body.double(), _labels(view, seen.rows)
        if grants_all(view, seen, self.hints):
            even = seen.rows % 2 == 0
            scores = torch.where(even, self._ratio(body, labels, ~even), self._ratio(body, labels, even))
        else:
            scores = self._ratio(body, labels, labels >= 0)
        kept = scorable(view, seen, self.hints)
        return Guess("labels", seen.steps[kept], seen.rows[kept], scores[kept])

    def _ratio(self, body: Tensor, labels: Tensor, used: Tensor) -> Tensor:
        logs = [self._log_density(body, body[used & (labels == label)]) for label in (0, 1)]
        return logs[1] - logs[0]

    def _log_density(self, body: Tensor, known: Tensor) -> Tensor:
        known = known if len(known) else body
        centred, dim = known - known.mean(dim=0), body.shape[1]
        covariance = centred.T @ centred / len(known)
        share = max(self.shrink, min(1.0, dim / len(known)))
        level = covariance.trace() / dim
        level = level if level > 0 else body.square().mean().clamp(min=1e-300)
        covariance = (1 - share) * covariance + share * level * torch.eye(dim, dtype=body.dtype)
        root = torch.linalg.cholesky(covariance + 1e-9 * level * torch.eye(dim, dtype=body.dtype))
        whitened = torch.linalg.solve_triangular(root, (body - known.mean(dim=0)).T, upper=False)
        return -whitened.square().sum(dim=0) / 2 - root.diagonal().log().sum()


def _labels(view: AdversaryView, rows: Tensor) -> Tensor:
    """Return `(n,)` classes of rows, -1 where unknown."""
    labels = torch.full_like(rows, -1)
    if len(view.hints.rows):
        handles, order = view.hints.rows.sort()
        place = torch.searchsorted(handles, rows).clamp(max=len(handles) - 1)
        labels = torch.where(handles[place] == rows, view.hints.labels[order][place], labels)
    return labels
