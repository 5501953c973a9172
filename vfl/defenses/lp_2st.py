"""Labels are flipped in two stages: what the first teaches is the prior of the second."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from vfl.defenses import LabelContext
from vfl.defenses._noise import check_positive
from vfl.privacy.label_dp import respond, respond_with_prior
from vfl.privacy.ledger import Plan, Spend
from vfl.types import Role


@dataclass(frozen=True)
class Lp2st:
    """Two-stage label privacy: a model of the first rows' noisy labels gives each other row a prior of its own.

    A random share `first` (strictly between 0 and 1) of the training rows is given plain randomized response, and the
    advertiser's own network learns them from its own columns. Its probabilities, to the power 1/`temperature` (above
    0), are the priors by which the other rows are answered. Each row is answered once, so the whole is `epsilon`-DP
    (above 0) for the label of a training row, not twice that. An advertiser without columns gives every row the mean.

    Reference: B. Ghazi, N. Golowich, R. Kumar, P. Manurangsi, C. Zhang, Deep Learning with Label Differential Privacy,
    NeurIPS 2021, https://arxiv.org/abs/2102.06062

    The paper's model sees all features and is the one that is deployed; ours learns from the advertiser's own columns
    alone and serves only as prior, so that no gradient leaves before the labels are private. First-stage rows whose
    noisy label the model finds unlikely are kept.
    """

    epsilon: float = 2.0
    first: float = 0.5
    temperature: float = 1.0

    side: ClassVar[Role] = Role.ADVERTISER
    binary_only: ClassVar[bool] = False
    each_epoch: ClassVar[bool] = False
    couples_rows: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_positive(epsilon=self.epsilon, temperature=self.temperature)
        if not 0 < self.first < 1:
            raise ValueError(f"first: got {self.first}, allowed above 0 and below 1; a half is usual")

    def transform(self, labels: Tensor, ctx: LabelContext) -> Tensor:
        """Return the `(n,)` noisy classes of both stages."""
        order = torch.randperm(len(labels), generator=ctx.seeds.torch("stages"))
        cut = round(self.first * len(labels))
        one, two = order[:cut], order[cut:]
        noisy = labels.clone()
        noisy[one] = respond(labels[one], ctx.classes, self.epsilon, ctx.seeds.torch("labels", 1))
        powered = ctx.teach(noisy[one], one)[two].double().clamp(min=1e-12) ** (1 / self.temperature)
        prior = powered / powered.sum(dim=1, keepdim=True)
        noisy[two] = respond_with_prior(labels[two], prior, self.epsilon, ctx.seeds.torch("labels", 2))
        return noisy

    def ledger(self, plan: Plan) -> tuple[Spend, ...]:
        """Return the one spend of a training row's label: stages answer different rows."""
        return (Spend("label of a training row", "everything trained and sent", pure=self.epsilon),)
