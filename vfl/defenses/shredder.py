"""A publisher's embedding is given noise that was learned to be as large as the task allows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from vfl.defenses._inside import Stream, add_loss, linears
from vfl.defenses._noise import check_between, check_positive, laplace
from vfl.seeds import Seeds
from vfl.types import Role

_MULTIPLIER, _PRIME = 2654435761, (1 << 31) - 1


@dataclass(frozen=True)
class Shredder:
    """Adds to each embedding one of `bank` (at least 1) noise vectors, learned to be large where the task has room.

    The vectors start as Laplace noise of `scale` (above 0) and are weights of the bottom: the task's gradient shapes
    them, and `weight` (0 to 100) times their mean absolute value is taken off the loss, so that they grow until the
    task resists. Training draws a vector for each row and step; evaluation takes the one that the row's handle names,
    so that scores are as noisy and can be repeated. No epsilon follows: vectors are few and the same for many rows,
    and whoever sees one row with several of them can average.

    Reference: F. Mireshghallah, M. Taram, P. Ramrakhyani, A. Jalali, D. Tullsen, H. Esmaeilzadeh, Shredder: Learning
    Noise Distributions to Protect Inference Privacy, ASPLOS 2020, https://arxiv.org/abs/1905.11814

    There the network is trained first and frozen, the noise is learned afterwards and samples are collected into the
    bank one training each; here network and bank learn together. The exact loss of the paper was not checked.
    """

    weight: float = 0.01
    scale: float = 0.5
    bank: int = 32

    side: ClassVar[Role] = Role.PUBLISHER
    binary_only: ClassVar[bool] = False
    place: ClassVar[Literal["bottom"]] = "bottom"

    def __post_init__(self) -> None:
        check_between(0, 100, weight=self.weight)
        check_positive(scale=self.scale)
        if self.bank < 1:
            raise ValueError(f"bank: got {self.bank}, allowed whole numbers from 1; 32 is moderate")

    def wrap(self, module: nn.Module, seeds: Seeds) -> nn.Module:
        """Return the bottom with the bank after it."""
        width = linears(module, "shredder")[-1].out_features
        start = self.scale * laplace((self.bank, width), seeds.torch("bank"), torch.float32)
        return _Shredded(module, start, self.weight, Stream(seeds, "shredder"))


class _Shredded(nn.Module):
    def __init__(self, bottom: nn.Module, bank: Tensor, weight: float, stream: Stream) -> None:
        super().__init__()
        self.bottom, self.weight, self.stream = bottom, weight, stream
        self.bank = nn.Parameter(bank)

    def forward(self, batch: Any) -> Tensor:  # noqa: ANN401 - whatever the network takes
        embedding = self.bottom(batch)
        if not torch.is_grad_enabled():
            return embedding + self.bank[batch.rows * _MULTIPLIER % _PRIME % len(self.bank)]
        drawn = torch.randint(len(self.bank), (len(embedding),), generator=self.stream.next())
        return add_loss(embedding + self.bank[drawn], -self.weight * self.bank.abs().mean())
