"""The spectral attack: the direction in which a publisher's own embeddings spread most is the label's."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from vfl.attacks import Guess, Needs
from vfl.attacks._own import embeddings
from vfl.errors import ThreatError
from vfl.transcript import AdversaryView


@dataclass(frozen=True)
class Spectral:
    """Scores each row by its place along the first principal direction of the publisher's own trained embeddings.

    Training pulls the two classes apart in what a publisher itself sends, so no message from the label's owner is
    read, and no noise on gradients hides it for good. The attacker is a publisher; of the labels it is granted the
    class prior alone, which names the rarer class: the side with the longer tail. One score a row, hinted rows left
    out.

    Reference: J. Sun, X. Yang, Y. Yao, C. Wang, Label Leakage and Protection from Forward Embedding in Vertical
    Federated Learning, 2022, https://arxiv.org/abs/2203.01451

    The sign of the direction is set by the third moment, which is our rule, and embeddings are those of the final
    network on all aligned rows.
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
        seen = embeddings(view).double()
        centred = seen - seen.mean(dim=0)
        scores = centred @ torch.linalg.eigh(centred.T @ centred).eigenvectors[:, -1]
        rarer_is_positive = bool(view.hints.prior[1] <= 0.5)
        tail_is_high = bool(scores.pow(3).sum() > 0)
        rows = torch.arange(len(scores))
        kept = ~torch.isin(rows, view.hints.rows)
        oriented = scores if tail_is_high == rarer_is_positive else -scores
        return Guess("labels", torch.zeros_like(rows[kept]), rows[kept], oriented[kept])
