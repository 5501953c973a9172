"""The residue attack: what decrypted weight gradients of vertical logistic regression still tell of each label."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vfl.attacks import Guess, Needs
from vfl.attacks._own import columns
from vfl.attacks._scored import scorable
from vfl.errors import ThreatError
from vfl.transcript import AdversaryView
from vfl.types import Kind


@dataclass(frozen=True)
class Residue:
    """Solves each batch's weight gradient X^T r for the residues r = p - y, and names a row positive where r < 0.

    It answers what encrypting the per-row gradients would buy: the attack reads them only summed into the gradient of
    a linear bottom's weights, which the publisher must learn to train. With X `(rows, d)` its own columns (categories
    one-hot) r is exact where X has full row rank, so for batches of up to d rows, and the shortest solution beyond.
    For runs with `top: sum`, whose gradients are as wide as the logits; no label is needed.

    Reference: J. Tan, L. Zhang, Y. Liu, A. Li, Y. Wu, Residue-based Label Protection Mechanisms in Vertical Logistic
    Regression, 2022, https://arxiv.org/abs/2205.04166

    The paper's residue is that of a Taylor expansion of the loss; here it is the exact one.
    """

    @property
    def needs(self) -> Needs:
        """Received gradients (summed at once) and the publisher's own columns."""
        return Needs(received=frozenset({Kind.GRADIENT}), own_features=True)

    def infer(self, view: AdversaryView, rng: torch.Generator) -> Guess:
        """Return `(n, classes)` scores; raises `ThreatError` where a gradient is not as wide as the logits."""
        del rng
        design = columns(view).double()
        seen = view.gradients().below(len(design))
        logits = 1 if view.classes == 2 else view.classes
        if seen.body.shape[1] % logits:
            message = f"got gradients {seen.body.shape[1]} wide, allowed as many as logits ({logits}) a party"
            raise ThreatError(f"{message}; it attacks runs with top: sum and embedding_dim={logits}", key="attack")
        found = [solve(design[batch.rows], batch.body[:, :logits].double()) for batch in seen.batches()]
        residue = torch.cat(found) if found else seen.body[:, :logits].double()
        scores = torch.cat([residue, -residue], dim=1) if logits == 1 else -residue
        kept = scorable(view, seen, 0)
        return Guess("labels", seen.steps[kept], seen.rows[kept], scores[kept])


def solve(design: Tensor, gradient: Tensor) -> Tensor:
    """Return the shortest `(rows, logits)` residues whose weight gradient `design.T @ r` is that of `gradient`.

    Only the sum over rows is used, as a publisher has it after decryption.
    """
    summed = design.T @ gradient
    return torch.linalg.pinv(design.T, rtol=1e-12) @ summed
