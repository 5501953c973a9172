"""Training labels carry Laplace noise, so that both the top and the gradients it sends are private."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from vfl.defenses import LabelContext
from vfl.defenses._noise import check_positive, laplace
from vfl.privacy.ledger import Plan, Spend
from vfl.types import Role


@dataclass(frozen=True)
class Tpsl:
    """Trains on y + u, Laplace noise on the one-hot label: what is sent and what the top learns are both private.

    Cross-entropy is linear in the label, so each gradient is g_y + sum_c u_c g_c. For two classes u is one draw of
    Lap(1/epsilon), above two one of Lap(2/epsilon) a class. `draw` says when: `epoch` draws anew for every pass and
    spends `epsilon` (above 0) each time, so noise averages out and privacy adds up; `once` spends it once and keeps
    the same wrong label throughout. Labels enter nowhere else, so the guarantee covers the weights of the top, all
    gradients and all scores. The loss of a noised label has no lower bound: small epsilons need a small learning rate.

    Reference: X. Yang, J. Sun, Y. Yao, J. Xie, C. Wang, Differentially Private Label Protection in Split Learning,
    2022, https://arxiv.org/abs/2203.02073

    The paper noises the gradients; noising the label they are linear in is the same, and reaches the top too. `once`
    is ours.
    """

    epsilon: float = 1.0
    draw: Literal["epoch", "once"] = "epoch"

    side: ClassVar[Role] = Role.ADVERTISER
    binary_only: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_positive(epsilon=self.epsilon)

    @property
    def each_epoch(self) -> bool:
        """Whether labels are made anew for every epoch."""
        return self.draw == "epoch"

    def transform(self, labels: Tensor, ctx: LabelContext) -> Tensor:
        """Return the `(n, classes)` float32 noised one-hot labels of an epoch."""
        generator = ctx.seeds.torch("labels", ctx.epoch if self.each_epoch else 0)
        exact = torch.nn.functional.one_hot(labels, ctx.classes).double()
        if ctx.classes == 2:
            noise = laplace((len(labels), 1), generator) / self.epsilon
            return (exact + torch.cat([-noise, noise], dim=1)).float()
        return (exact + laplace(exact.shape, generator) * 2 / self.epsilon).float()

    def ledger(self, plan: Plan) -> tuple[Spend, ...]:
        """Return what all draws spend of a training row's label."""
        spent = self.epsilon * (plan.epochs if self.each_epoch else 1)
        return (Spend("label of a training row", "everything trained and sent", pure=spent),)
