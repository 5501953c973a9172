"""White Gaussian noise on the cut-layer gradients."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from vfl.defenses import Counter, SendContext, State
from vfl.defenses._noise import check_from_zero, longest, wide
from vfl.types import Kind, Role


@dataclass(frozen=True)
class GaussianNoise:
    """Adds the same white noise to every gradient, as strong as the longest gradient of the batch asks for.

    With `ratio` >= 0 each coordinate of the `(rows, dim)` body is given N(0, std^2), where
    std = ratio * max_j |g_j| / sqrt(dim): the noise is about `ratio` times as long as the longest gradient, whatever
    the scale of the loss. It is a baseline: no epsilon follows from it, since the scale is the batch's own.

    Reference: O. Li, J. Sun, X. Yang, W. Gao, H. Zhang, J. Xie, V. Smith, C. Wang, Label Leakage and Protection in
    Two-party Split Learning, ICLR 2022, https://arxiv.org/abs/2102.08504

    It needs no labels, so it takes any number of classes, where the paper has two; otherwise it is the paper's `iso`.
    """

    ratio: float = 1.0

    kinds: ClassVar[frozenset[Kind]] = frozenset({Kind.GRADIENT})
    side: ClassVar[Role] = Role.ADVERTISER
    binary_only: ClassVar[bool] = False
    counters: ClassVar[tuple[Counter, ...]] = ({"name": "averaging"},)
    couples_rows: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_from_zero(ratio=self.ratio)

    def init(self) -> State:
        """Return the empty state: every batch stands alone."""
        return {}

    def apply(self, body: Tensor, state: State, ctx: SendContext) -> tuple[Tensor, State]:
        """Return the `(rows, dim)` gradients with the noise added, and the state as it was."""
        noise_std = self.ratio * longest(body) / math.sqrt(max(body.shape[1], 1))
        noise = torch.randn(body.shape, generator=ctx.generator, dtype=wide(body.dtype))
        return (body + noise_std * noise).to(body.dtype), state
