"""Embeddings of one class are charged for being close to each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from vfl.defenses import Counter, PenaltyContext, hard
from vfl.defenses._noise import check_between, check_positive
from vfl.types import Role


@dataclass(frozen=True)
class PeLoss:
    """Potential energy: rows of one class repel each other, so that classes form no clusters in the embedding.

    Adds `weight` (0 to 100) times the sum over classes of the mean of 1 / (distance + `softening`) over pairs of rows
    of that class, on each embedding received, every row first brought to mean 0 and variance 1 over its coordinates.
    Against attacks that cluster or finetune on embeddings; gradients still tell. Rows of a batch change each other's
    gradients. No epsilon follows.

    Reference: F. Zheng, C. Chen, L. Lyu, X. Fu, X. Fu, W. Wang, X. Zheng, J. Yin, Protecting Split Learning by
    Potential Energy Loss, IJCAI 2024, https://arxiv.org/abs/2210.09617

    The exact kernel of the paper was not checked: an inverse distance with a small `softening` (above 0) is our
    reading. The paper's loss is the holder of the bottom's; here the advertiser alone knows classes and adds it.
    """

    weight: float = 0.01
    softening: float = 0.1

    side: ClassVar[Role] = Role.ADVERTISER
    binary_only: ClassVar[bool] = False
    counters: ClassVar[tuple[Counter, ...]] = ({"name": "averaging"},)
    couples_rows: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_between(0, 100, weight=self.weight)
        check_positive(softening=self.softening)

    def penalty(self, h: Tensor, ctx: PenaltyContext) -> Tensor:
        """Return the weighted energy of the `(rows, dim)` embedding. Raises `ValueError` without labels."""
        if ctx.batch.labels is None:
            raise ValueError("pe_loss needs labels; mount it at the advertiser")
        labels = hard(ctx.batch.labels)
        even = torch.nn.functional.layer_norm(h, h.shape[1:])
        found = h.sum() * 0
        for each in range(ctx.classes):
            alike = even[labels == each]
            if len(alike) > 1:
                found = found + self._energy(alike)
        return self.weight * found

    def _energy(self, alike: Tensor) -> Tensor:
        squares = alike.square().sum(dim=1)
        between = (squares[:, None] + squares[None, :] - 2 * alike @ alike.T).clamp(min=0)
        pairs = between[~torch.eye(len(alike), dtype=torch.bool)]
        return (1 / ((pairs + self.softening**2).sqrt() + self.softening)).mean()
