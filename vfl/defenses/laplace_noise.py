"""Laplace noise on the cut-layer gradients, as strong as the batch's longest gradient asks for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from vfl.defenses import Counter, SendContext, State
from vfl.defenses._noise import check_from_zero, laplace, longest, wide
from vfl.types import Kind, Role


@dataclass(frozen=True)
class LaplaceNoise:
    """Adds the same Laplace noise to every gradient, as strong as the longest gradient of the batch asks for.

    With `ratio` >= 0 each coordinate of the `(rows, dim)` body is given Lap(b), b = ratio * max_j |g_j| / sqrt(2 dim):
    the noise's mean squared length is that of `gaussian_noise` at the same ratio, its tails are heavier. It is a
    baseline: no epsilon follows from it, since the scale is the batch's own; `clipped_laplace` is the one with an
    epsilon.

    Reference: C. Fu, X. Zhang, S. Ji, J. Chen, J. Wu, S. Guo, J. Zhou, A. X. Liu, T. Wang, Label Inference Attacks
    Against Vertical Federated Learning, USENIX Security 2022,
    https://www.usenix.org/conference/usenixsecurity22/presentation/fu-chong

    There noise has a fixed scale; ours follows the batch, so that one strength means the same for every loss.
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
        scale = self.ratio * longest(body) / math.sqrt(2 * max(body.shape[1], 1))
        noise = laplace(body.shape, ctx.generator, wide(body.dtype))
        return (body + scale * noise).to(body.dtype), state
