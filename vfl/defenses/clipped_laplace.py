"""Each row's message is cut in L1 and given Laplace noise in proportion: a guarantee with a pure epsilon."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from vfl.defenses import Counter, SendContext, State
from vfl.defenses._noise import check_positive, clip_rows, laplace, wide
from vfl.defenses._release import kinds_of, releases, row_limit, side_of, unit_of
from vfl.privacy.ledger import Plan, Spend
from vfl.types import Kind, Role


@dataclass(frozen=True)
class ClippedLaplace:
    """Cuts each row to L1 length `clip_l1` and adds Lap(2 `clip_l1` / `epsilon`) to every coordinate.

    `on` says to which messages: a publisher's `embedding`, for its own columns, or the advertiser's `gradient`, for
    the label, measured without the factor 1/rows of a mean loss. Each release is `epsilon`-DP for its row (both options
    above 0) *given the weights* that produced it, and the releases of a row, one an epoch and receiver, add up. It
    needs every earlier defense of the stack to treat rows one by one.

    Reference: C. Dwork, F. McSherry, K. Nissim, A. Smith, Calibrating Noise to Sensitivity in Private Data Analysis,
    TCC 2006, https://doi.org/10.1007/11681878_14

    A bottom learns from the gradient at the noised embedding as if it had been sent unclipped.
    """

    epsilon: float = 1.0
    clip_l1: float = 1.0
    on: Literal["embedding", "gradient"] = "embedding"

    binary_only: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_positive(epsilon=self.epsilon, clip_l1=self.clip_l1)

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
        limit = row_limit(self.on, body, self.clip_l1)
        noise = laplace(body.shape, ctx.generator, wide(body.dtype))
        return (clip_rows(body, limit, order=1) + 2 * limit / self.epsilon * noise).to(body.dtype), state

    def ledger(self, plan: Plan) -> tuple[Spend, ...]:
        """Return what all epochs spend of one row."""
        return (Spend(unit_of(self.on), f"{self.on}s", pure=self.epsilon * releases(self.on, plan)),)
