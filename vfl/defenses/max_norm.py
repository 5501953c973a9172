"""Noise along each gradient that makes all of them equally long on average."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from vfl.defenses import Counter, SendContext, State
from vfl.types import Kind, Role


@dataclass(frozen=True)
class MaxNorm:
    """Stretches each gradient at random along itself, so that its expected squared length is the batch's greatest.

    Row i of the `(rows, dim)` body becomes g_i (1 + sigma_i xi_i) with one scalar xi_i ~ N(0, 1) a row and
    sigma_i^2 = M / |g_i|^2 - 1, M = max_j |g_j|^2. So E g~_i = g_i, E |g~_i|^2 = M, and g~_i stays on the line of
    g_i: lengths tell little, directions still tell up to a sign. No epsilon follows from it.

    Reference: O. Li, J. Sun, X. Yang, W. Gao, H. Zhang, J. Xie, V. Smith, C. Wang, Label Leakage and Protection in
    Two-party Split Learning, ICLR 2022, https://arxiv.org/abs/2102.08504

    It needs no labels, so it takes any number of classes, where the paper has two. A gradient of zero has no line and
    stays zero.
    """

    kinds: ClassVar[frozenset[Kind]] = frozenset({Kind.GRADIENT})
    side: ClassVar[Role] = Role.ADVERTISER
    binary_only: ClassVar[bool] = False
    counters: ClassVar[tuple[Counter, ...]] = ({"name": "averaging"},)
    couples_rows: ClassVar[bool] = True

    def init(self) -> State:
        """Return the empty state: every batch stands alone."""
        return {}

    def apply(self, body: Tensor, state: State, ctx: SendContext) -> tuple[Tensor, State]:
        """Return the stretched `(rows, dim)` gradients, and the state as it was."""
        if body.numel() == 0:
            return body.clone(), state
        exact = body.double()
        norms = exact.norm(dim=1, keepdim=True)
        stretch = torch.where(norms > 0, (norms.max() / norms).square() - 1, 0.0).clamp(min=0.0).sqrt()
        xi = torch.randn((len(body), 1), generator=ctx.generator, dtype=torch.float64)
        return (exact * (1 + stretch * xi)).to(body.dtype), state
