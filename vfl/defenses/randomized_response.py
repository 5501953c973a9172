"""Training labels are flipped at random, once, before anything is learned from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from vfl.defenses import LabelContext
from vfl.defenses._noise import check_positive
from vfl.privacy.label_dp import respond, unbiased
from vfl.privacy.ledger import Plan, Spend
from vfl.types import Role


@dataclass(frozen=True)
class RandomizedResponse:
    """Keeps each training label with chance e^epsilon / (e^epsilon + K - 1), else gives any other of the K classes.

    Drawn once for the whole run, so everything learned or sent afterwards is `epsilon`-DP (above 0) for the label of a
    training row, however many epochs and whoever looks. Validation labels stay clean: their mean loss is reported.
    With `debias` (the default) training uses weights whose mean over the flips is the clean label: the gradient is
    right on average and predictions stay calibrated, at more variance and a loss that may be negative. Without it a
    rare class is drowned: at 2 % positives and epsilon 1 the flipped labels hold 28 %.

    Reference: B. Ghazi, N. Golowich, R. Kumar, P. Manurangsi, C. Zhang, Deep Learning with Label Differential Privacy,
    NeurIPS 2021, https://arxiv.org/abs/2102.06062

    The paper trains on the noisy labels as they are: `debias: false`.
    """

    epsilon: float = 1.0
    debias: bool = True

    side: ClassVar[Role] = Role.ADVERTISER
    binary_only: ClassVar[bool] = False
    each_epoch: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_positive(epsilon=self.epsilon)

    def transform(self, labels: Tensor, ctx: LabelContext) -> Tensor:
        """Return the `(n,)` noisy classes, or `(n, classes)` float32 weights that undo the bias."""
        noisy = respond(labels, ctx.classes, self.epsilon, ctx.seeds.torch("labels"))
        return unbiased(noisy, ctx.classes, self.epsilon).float() if self.debias else noisy

    def ledger(self, plan: Plan) -> tuple[Spend, ...]:
        """Return the one spend of a training row's label, whatever the epochs."""
        return (Spend("label of a training row", "everything trained and sent", pure=self.epsilon),)
