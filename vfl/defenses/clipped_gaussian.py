"""Each row's message is cut to a length and given Gaussian noise in proportion: a guarantee with an epsilon."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from vfl.defenses import Counter, SendContext, State
from vfl.defenses._noise import check_positive, clip_rows, wide
from vfl.defenses._release import kinds_of, releases, row_limit, side_of, unit_of
from vfl.privacy import gaussian
from vfl.privacy.ledger import Plan, Spend
from vfl.types import Kind, Role


@dataclass(frozen=True)
class ClippedGaussian:
    """Cuts each row to L2 length `clip_l2` and adds N(0, (`noise_multiplier` `clip_l2`)^2) to every coordinate.

    `on` says to which messages: a publisher's `embedding`, for its own columns, or the advertiser's `gradient`, for
    the label. A gradient is measured without the factor 1/rows of a mean loss. Two values of a row differ by at most
    2 `clip_l2`, so a release has mu = 2 / `noise_multiplier` (both options above 0), and the releases of one row, one
    an epoch and receiver, compose exactly. The other side knows which rows a batch holds: no amplification by sampling
    is claimed. The guarantee is for what is sent of a row *given the weights* that produced it, which learned from
    other messages; it needs every earlier defense of the stack to treat rows one by one.

    Reference: B. Balle, Y.-X. Wang, Improving the Gaussian Mechanism for Differential Privacy: Analytical Calibration
    and Optimal Denoising, ICML 2018, https://arxiv.org/abs/1805.06530

    A bottom learns from the gradient at the noised embedding as if it had been sent unclipped. Floating-point noise is
    not the mathematical one: last digits are outside the guarantee.
    """

    noise_multiplier: float = 1.0
    clip_l2: float = 1.0
    on: Literal["embedding", "gradient"] = "embedding"

    binary_only: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_positive(noise_multiplier=self.noise_multiplier, clip_l2=self.clip_l2)

    @property
    def kinds(self) -> frozenset[Kind]:
        """The one kind that `on` names."""
        return kinds_of(self.on)

    @property
    def counters(self) -> tuple[Counter, ...]:
        """Return the attack that averages the noise out, where it is on gradients."""
        return ({"name": "averaging"},) if self.on == "gradient" else ()

    @property
    def side(self) -> Role:
        """The sender of that kind."""
        return side_of(self.on)

    def init(self) -> State:
        """Return the empty state: every release draws anew."""
        return {}

    def apply(self, body: Tensor, state: State, ctx: SendContext) -> tuple[Tensor, State]:
        """Return the clipped and noised `(rows, dim)` messages, and the state as it was."""
        limit = row_limit(self.on, body, self.clip_l2)
        noise = torch.randn(body.shape, generator=ctx.generator, dtype=wide(body.dtype))
        sent = clip_rows(body, limit) + self.noise_multiplier * limit * noise
        return sent.to(body.dtype), state

    def ledger(self, plan: Plan) -> tuple[Spend, ...]:
        """Return what all epochs spend of one row."""
        mu = gaussian.composed([2 / self.noise_multiplier] * releases(self.on, plan))
        return (Spend(unit_of(self.on), f"{self.on}s", mu=mu),)
