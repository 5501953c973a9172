"""Membership inference from embeddings: rows that were trained on are mapped with more confidence."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from vfl.attacks import Guess, Needs
from vfl.attacks._own import embeddings
from vfl.transcript import AdversaryView


@dataclass(frozen=True)
class Membership:
    """Scores each row by how far its trained embedding moved from the mean, in units of the embeddings' spread.

    It reads values alone, not handles: the parties of a run know which rows they trained on, so this measures what
    somebody who obtains a publisher's network and columns later, but not the alignment, can tell. Training pushes its
    own rows apart along the label's direction, so they lie farther out where the network has overfitted.

    The test statistic (Mahalanobis length) is ours, a baseline that needs no shadow run; the definition of the game is
    that of the reference.

    Reference: R. Shokri, M. Stronati, C. Song, V. Shmatikov, Membership Inference Attacks Against Machine Learning
    Models, IEEE S&P 2017, https://arxiv.org/abs/1610.05820
    """

    @property
    def needs(self) -> Needs:
        """The adversary's own columns and network."""
        return Needs(own_features=True, own_models=True)

    def infer(self, view: AdversaryView, rng: torch.Generator) -> Guess:
        """Return one score for each aligned row; draws nothing from `rng`."""
        del rng
        seen = embeddings(view).double()
        centred = seen - seen.mean(dim=0)
        covariance = centred.T @ centred / len(centred)
        ridge = 1e-6 * covariance.trace() / len(covariance) * torch.eye(len(covariance), dtype=torch.float64)
        lengths = (centred @ torch.linalg.pinv(covariance + ridge) * centred).sum(dim=1)
        rows = torch.arange(len(lengths))
        return Guess("membership", torch.zeros_like(rows), rows, lengths)
