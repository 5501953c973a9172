"""Confused labels and rounded gradients together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor, nn

from vfl.defenses import LabelContext, SendContext, State
from vfl.defenses.cae import Cae
from vfl.defenses.discrete_grad import DiscreteGrad
from vfl.seeds import Seeds
from vfl.types import Kind, Role


@dataclass(frozen=True)
class Dcae:
    """Confusional auto-encoder whose gradients are also rounded: `cae` and `discrete_grad` as one defense.

    Options are theirs: `entropy` of the soft labels, `bins` and `spread` of the levels. No epsilon follows.

    Reference: T. Zou, Y. Liu, Y. Kang, W. Liu, Y. He, Z. Yi, Q. Yang, Y. Zhang, Defending Batch-Level Label Inference
    and Replacement Attacks in Vertical Federated Learning, IEEE Transactions on Big Data 2022,
    https://arxiv.org/abs/2112.05409

    Differs from the paper where `cae` and `discrete_grad` do.
    """

    entropy: float = 1.0
    bins: int = 12
    spread: float = 2.0

    kinds: ClassVar[frozenset[Kind]] = frozenset({Kind.GRADIENT})
    side: ClassVar[Role] = Role.ADVERTISER
    binary_only: ClassVar[bool] = False
    couples_rows: ClassVar[bool] = True
    each_epoch: ClassVar[bool] = False
    place: ClassVar[Literal["top"]] = "top"

    def __post_init__(self) -> None:
        Cae(self.entropy)
        DiscreteGrad(self.bins, self.spread)

    def transform(self, labels: Tensor, ctx: LabelContext) -> Tensor:
        """Return the `(n, classes)` soft labels."""
        return Cae(self.entropy).transform(labels, ctx)

    def wrap(self, module: nn.Module, seeds: Seeds) -> nn.Module:
        """Return the top with its logits decoded where nothing is learned."""
        return Cae(self.entropy).wrap(module, seeds)

    def init(self) -> State:
        """Return the empty state: every batch stands alone."""
        return {}

    def apply(self, body: Tensor, state: State, ctx: SendContext) -> tuple[Tensor, State]:
        """Return the rounded `(rows, dim)` gradients, and the state as it was."""
        return DiscreteGrad(self.bins, self.spread).apply(body, state, ctx)
