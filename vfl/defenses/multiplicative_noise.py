"""Each gradient is multiplied by a random factor, the same chance of any factor for every row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from vfl.defenses import Counter, SendContext, State
from vfl.defenses._noise import check_from_zero, laplace
from vfl.types import Kind, Role


@dataclass(frozen=True)
class MultiplicativeNoise:
    """Sends g_i (1 + b_i) with one draw b_i of Lap(`scale`) a row: noise in proportion to each gradient.

    E g~_i = g_i, and g~_i stays on the line of g_i. Its sign, the label where the loss is logistic and the top a plain
    sum, is turned with the chance exp(-1/`scale`) / 2; its length still tells how wrong the model is about a
    row. No epsilon follows from it: a gradient of zero stays zero, and a longer one reaches further.

    Reference: J. Tan, L. Zhang, Y. Liu, A. Li, Y. Wu, Residue-based Label Protection Mechanisms in Vertical Logistic
    Regression, 2022, https://arxiv.org/abs/2205.04166

    The paper's abstract has a multiplicative noise on residues and its tables an epsilon; its formula was not at hand.
    This is our reading of the words, with `scale` for 1/epsilon, and not known to be the paper's mechanism.
    """

    scale: float = 1.0

    kinds: ClassVar[frozenset[Kind]] = frozenset({Kind.GRADIENT})
    side: ClassVar[Role] = Role.ADVERTISER
    binary_only: ClassVar[bool] = False
    counters: ClassVar[tuple[Counter, ...]] = ({"name": "averaging"},)

    def __post_init__(self) -> None:
        check_from_zero(scale=self.scale)

    def init(self) -> State:
        """Return the empty state: every release draws anew."""
        return {}

    def apply(self, body: Tensor, state: State, ctx: SendContext) -> tuple[Tensor, State]:
        """Return the multiplied `(rows, dim)` gradients, and the state as it was."""
        factors = 1 + self.scale * laplace((len(body), 1), ctx.generator)
        return (body.double() * factors).to(body.dtype), state
