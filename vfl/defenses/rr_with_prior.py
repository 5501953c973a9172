"""Training labels are flipped at random among the classes that a public prior makes likely."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from vfl.defenses import LabelContext
from vfl.defenses._noise import check_positive
from vfl.privacy.label_dp import respond_with_prior
from vfl.privacy.ledger import Plan, Spend
from vfl.types import Role


@dataclass(frozen=True)
class RrWithPrior:
    """Randomized response over the k likeliest classes of a prior, k chosen to keep the true label most often.

    `prior` has one share a class and must be public, such as last year's rates: one computed from these very labels
    voids the guarantee. Empty, it is uniform, which is plain randomized response. Drawn once for the whole run:
    `epsilon`-DP (above 0) for the label of a training row. With two classes and a prior more uneven than
    e^epsilon : 1, k is 1 and every label becomes the frequent class: nothing is left to learn.

    Reference: B. Ghazi, N. Golowich, R. Kumar, P. Manurangsi, C. Zhang, Deep Learning with Label Differential Privacy,
    NeurIPS 2021, https://arxiv.org/abs/2102.06062

    The prior here is one for all rows; `lp_2st` has one for each row.
    """

    epsilon: float = 1.0
    prior: tuple[float, ...] = ()

    side: ClassVar[Role] = Role.ADVERTISER
    binary_only: ClassVar[bool] = False
    each_epoch: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_positive(epsilon=self.epsilon)
        if self.prior and not (min(self.prior) >= 0 and abs(sum(self.prior) - 1) < 1e-6):
            raise ValueError(f"prior: got {self.prior}, allowed shares from 0 that sum to 1; one a class")

    def transform(self, labels: Tensor, ctx: LabelContext) -> Tensor:
        """Return the `(n,)` noisy classes. Raises `ValueError` where the prior has another number of classes."""
        if self.prior and len(self.prior) != ctx.classes:
            raise ValueError(f"prior: got {len(self.prior)} shares, allowed {ctx.classes}; give one a class")
        prior = torch.tensor(self.prior or [1 / ctx.classes] * ctx.classes, dtype=torch.float64)
        return respond_with_prior(labels, prior.expand(len(labels), -1), self.epsilon, ctx.seeds.torch("labels"))

    def ledger(self, plan: Plan) -> tuple[Spend, ...]:
        """Return the one spend of a training row's label, whatever the epochs."""
        return (Spend("label of a training row", "everything trained and sent", pure=self.epsilon),)
