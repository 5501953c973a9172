"""Batch label inversion: the labels of a whole batch that explain the weight gradient a publisher learns from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from vfl.attacks import Guess, Needs
from vfl.attacks._own import columns
from vfl.attacks._replay import replayed_steps
from vfl.attacks._scored import scorable
from vfl.errors import ThreatError
from vfl.transcript import AdversaryView
from vfl.types import Kind


@dataclass(frozen=True)
class BatchInversion:
    """Fits dummy labels and the other parties' logits until they explain each batch's gradient of the bottom's weights.

    Gradients of single rows may be encrypted: what is read is only their sum into the weight gradient X^T (p - y) of a
    linear bottom, and the publisher's own embeddings h. By Adam over `steps` steps it fits y (softmax of free logits)
    and the logits z of all others in p = softmax(h + z); with `top: trained` h passes a free matrix first, for an
    attacker that does not know that embeddings are added. At most `batches` batches are inverted, the last ones seen.
    For runs with `top: sum`, whose embeddings are as wide as the logits. No label is needed.

    Reference: T. Zou, Y. Liu, Y. Kang, W. Liu, Y. He, Z. Yi, Q. Yang, Y.-Q. Zhang, Defending Batch-Level Label
    Inference and Replacement Attacks in Vertical Federated Learning, IEEE Transactions on Big Data 2022,
    https://arxiv.org/abs/2112.05409

    Rows are pinned down only while a batch has no more of them than the columns have rank. Matching in an orthonormal
    basis of the columns, which is the same set of equations well conditioned, is ours; so is reporting the two tops
    apart, where public code keeps the better of them by the true labels.
    """

    top: Literal["sum", "trained"] = "sum"
    steps: int = 300
    batches: int = 20

    def __post_init__(self) -> None:
        if self.top not in ("sum", "trained"):
            raise ValueError(f"top: got {self.top!r}, allowed 'sum' or 'trained'; the first knows how logits are made")
        for name in ("steps", "batches"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: got {getattr(self, name)}, allowed any whole number from 1")

    @property
    def needs(self) -> Needs:
        """Received gradients (summed at once), sent embeddings and the publisher's own columns."""
        return Needs(received=frozenset({Kind.GRADIENT}), sent=frozenset({Kind.EMBEDDING}), own_features=True)

    def infer(self, view: AdversaryView, rng: torch.Generator) -> Guess:
        """Return `(n, classes)` label logits; raises `ThreatError` where an embedding is not as wide as the logits."""
        design = columns(view).double()
        seen, sent = replayed_steps(view, len(design))
        logits = 1 if view.classes == 2 else view.classes
        if seen.body.shape[1] % logits:
            message = f"got gradients {seen.body.shape[1]} wide, allowed as many as logits ({logits}) a party"
            raise ThreatError(f"{message}; it attacks runs with top: sum and embedding_dim={logits}", key="attack")
        steps = seen.steps.unique()[-self.batches :]
        late = torch.isin(seen.steps, steps)
        parts = [late & (seen.steps == step) for step in steps]
        found = [
            self.invert(design[seen.rows[at]], sent[at, :logits].double(), seen.body[at, :logits].double(), rng)
            for at in parts
        ]
        scores = torch.cat(found) if found else seen.body[:0, :logits]
        kept = scorable(view, seen, 0)[late]
        scores = torch.cat([-scores, scores], dim=1) if logits == 1 else scores
        return Guess("labels", seen.steps[late][kept], seen.rows[late][kept], scores[kept])

    def invert(self, design: Tensor, h: Tensor, gradient: Tensor, rng: torch.Generator) -> Tensor:
        """Return `(rows, logits)` label logits of one batch from `(rows, d)` columns and the gradient's sum alone."""
        left, spread, right = torch.linalg.svd(design, full_matrices=False)
        kept = spread > 1e-10 * spread[0].clamp(min=1e-30)
        basis = left[:, kept]
        seen = (right[kept] @ (design.T @ gradient)) / spread[kept][:, None]
        unit = seen.square().sum().clamp(min=1e-30)
        labels = (0.01 * torch.randn(h.shape, generator=rng, dtype=h.dtype)).requires_grad_()
        others = torch.zeros_like(h).requires_grad_()
        mixing = torch.eye(h.shape[1], dtype=h.dtype).requires_grad_(self.top == "trained")
        fitted = [labels, others, *([mixing] if self.top == "trained" else [])]
        optimizer = torch.optim.Adam(fitted, lr=0.05)
        for _ in range(self.steps):
            residue = _probabilities(h @ mixing + others) - _probabilities(labels)
            loss = (basis.T @ residue - seen).square().sum() / unit
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return labels.detach().float()


def _probabilities(logits: Tensor) -> Tensor:
    return logits.sigmoid() if logits.shape[1] == 1 else logits.softmax(dim=1)
