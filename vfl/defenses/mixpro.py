"""MixPro: each gradient is mixed with another, then turned towards the batch's mean."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from scipy import special
from torch import Tensor

from vfl.defenses import Counter, SendContext, State
from vfl.defenses._noise import check_between, check_positive
from vfl.types import Kind, Role


@dataclass(frozen=True)
class Mixpro:
    """Mixes each gradient with that of a random row, then turns those far from the batch mean towards it.

    Mixup: m_i = l g_i + (1 - l) g_j with j uniform in the batch and l ~ Beta(`alpha`, `alpha`), brought to at least
    one half. Projection: where the angle of m_i to the mean is above `goal_degrees` (above 0, up to 90), the multiple
    of the mean is added that makes it exactly that. A vector exactly opposed to the mean becomes zero, as under a
    linear top, where all gradients lie on one line. Nothing is promised: mixing leaves a positive at least
    half of its gradient, and no epsilon follows.

    Reference: Penghui Wei, Hongjian Dou, Shaoguo Liu, Rongjun Tang, Li Liu, Liang Wang, Bo Zheng, FedAds: A Benchmark
    for Privacy-Preserving CVR Estimation with Vertical Federated Learning, SIGIR 2023,
    https://arxiv.org/abs/2305.08328

    Reconstructed: the paper's text was not at hand, and its code is not public. That it mixes and then projects is the
    paper's own abstract. `alpha` 0.6, the angle of 30 degrees and the rule of projection are an independent
    re-implementation's, not checked against the paper. How a weight below one half is treated (`small`: `mirror`
    takes 1 - l, `half` takes 1/2) and which mean is meant (`mean`: of the `original` or of the `mixed` gradients) is
    not known, so both are offered. No figure here may be read as the paper's.
    """

    alpha: float = 0.6
    goal_degrees: float = 30.0
    small: Literal["mirror", "half"] = "mirror"
    mean: Literal["original", "mixed"] = "original"

    kinds: ClassVar[frozenset[Kind]] = frozenset({Kind.GRADIENT})
    side: ClassVar[Role] = Role.ADVERTISER
    binary_only: ClassVar[bool] = False
    counters: ClassVar[tuple[Counter, ...]] = ({"name": "averaging"},)
    couples_rows: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_positive(alpha=self.alpha, goal_degrees=self.goal_degrees)
        check_between(0, 90, goal_degrees=self.goal_degrees)

    def init(self) -> State:
        """Return the empty state: every batch stands alone."""
        return {}

    def apply(self, body: Tensor, state: State, ctx: SendContext) -> tuple[Tensor, State]:
        """Return the mixed and turned `(rows, dim)` gradients, and the state as it was."""
        rows = len(body)
        if body.numel() == 0:
            return body.clone(), state
        exact = body.double()
        partner = torch.randint(rows, (rows,), generator=ctx.generator)
        drawn = torch.rand(rows, generator=ctx.generator, dtype=torch.float64)
        weight = torch.from_numpy(special.betaincinv(self.alpha, self.alpha, drawn.numpy()))[:, None]
        weight = torch.maximum(weight, 1 - weight) if self.small == "mirror" else weight.clamp(min=0.5)
        mixed = weight * exact + (1 - weight) * exact[partner]
        towards = (exact if self.mean == "original" else mixed).mean(dim=0)
        return _turn(mixed, towards, math.radians(self.goal_degrees)).to(body.dtype), state


def _turn(vectors: Tensor, towards: Tensor, goal: float) -> Tensor:
    """Return `(rows, dim)` vectors with that multiple of `(dim,)` added which brings each within `goal` radians of it.

    In the plane of both, only the part along `towards` grows, until it is the part across it over tan(goal).
    """
    length = towards.norm()
    if length == 0:
        return vectors
    line = towards / length
    along = vectors @ line
    across = (vectors - along[:, None] * line).norm(dim=1)
    return vectors + (across / math.tan(goal) - along).clamp(min=0)[:, None] * line
