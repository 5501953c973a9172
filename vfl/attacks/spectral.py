"""The spectral attack: the direction in which a publisher's own embeddings spread most is the label's."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vfl.attacks import Guess, Needs
from vfl.attacks._own import embeddings, without_training
from vfl.errors import ThreatError
from vfl.transcript import AdversaryView

ROUNDS = 50


@dataclass(frozen=True)
class Spectral:
    """Scores each row by its place along the first principal direction of the publisher's own trained embeddings.

    Training pulls the two classes apart in what a publisher itself sends, so no message from the label's owner is
    read, and no noise on gradients hides it for good. The attacker is a publisher; of the labels it is granted the
    class prior alone, which names the classes: of the two clusters along the direction, the one as large as the share
    of positives is theirs. One score a row, hinted rows left out. Controls are the same of `random_bottom` (the network
    before training) and `own_columns` (no network): what these reach is the publisher's columns, not a leak.

    Reference: J. Sun, X. Yang, Y. Yao, C. Wang, Label Leakage and Protection from Forward Embedding in Vertical
    Federated Learning, 2022, https://arxiv.org/abs/2203.01451

    Embeddings are those of the final network on all aligned rows. Where other columns of the publisher spread them
    more than the label does, the direction is not the label's and its sign may be wrong: compare the sign-free figure.
    """

    @property
    def needs(self) -> Needs:
        """The publisher's own columns and network, and the class prior."""
        return Needs(own_features=True, own_models=True, prior=True, binary_only=True)

    def infer(self, view: AdversaryView, rng: torch.Generator) -> Guess:
        """Return one score for each aligned row that was not hinted; raises `ThreatError` without a prior."""
        del rng
        if view.hints.prior is None:
            raise ThreatError("needs the class prior; set threat.hints.prior=true", key="threat.hints.prior")
        prior = float(view.hints.prior[1])
        seen, held = embeddings(view), without_training(view)
        rows = torch.arange(len(seen))
        kept = ~torch.isin(rows, view.hints.rows)
        controls = {name: _along(each, prior)[kept] for name, each in held.items()}
        scores = _along(seen, prior)[kept]
        return Guess("labels", torch.zeros_like(rows[kept]), rows[kept], scores, controls=controls)


def _along(points: Tensor, prior: float) -> Tensor:
    """Return each row's place along the first principal direction, turned so that the cluster of the prior is high."""
    centred = points.double() - points.double().mean(dim=0)
    scores = centred @ torch.linalg.eigh(centred.T @ centred).eigenvectors[:, -1]
    high = _upper_share(scores)
    return scores if abs(high - prior) <= abs(1 - high - prior) else -scores


def _upper_share(scores: Tensor) -> float:
    """Return the share of rows in the upper of two clusters on a line, by 2-means from the extremes."""
    low, high = float(scores.min()), float(scores.max())
    above = scores > (low + high) / 2
    for _ in range(ROUNDS):
        if not 0 < int(above.sum()) < len(above):
            break
        above = scores > float(scores[above].mean() + scores[~above].mean()) / 2
    return float(above.double().mean())
