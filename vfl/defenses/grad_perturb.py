"""The label behind each gradient is perturbed, by adding the gradients of the other classes at random."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from vfl.defenses import Counter, SendContext, State
from vfl.defenses._noise import check_positive, laplace
from vfl.privacy.ledger import Plan, Spend
from vfl.types import Kind, Role


@dataclass(frozen=True)
class GradPerturb:
    """Sends the gradient of a noised label: g_y + sum_c u_c g_c, where g_c is the gradient had the class been c.

    The gradient of cross-entropy is linear in the label, so this is what the label y + u would have given. For two
    classes u is one draw of Lap(1/`epsilon`) on the difference g_1 - g_0, above two one of Lap(2/`epsilon`) a class: a
    label changes one-hot labels by 2 in all. Each release is `epsilon`-DP (above 0) for the label of its row *given the
    top's weights*, and releases add up over epochs and publishers. The top itself is trained on clean labels, and what
    it learned of a label shows in later gradients of other rows: `tpsl` covers that.

    Reference: X. Yang, J. Sun, Y. Yao, J. Xie, C. Wang, Differentially Private Label Protection in Split Learning,
    2022, https://arxiv.org/abs/2203.02073

    The paper perturbs the top's training as well. Needs a method that can say what each class's gradients would be;
    it costs one more pass through the top for each class.
    """

    epsilon: float = 1.0

    kinds: ClassVar[frozenset[Kind]] = frozenset({Kind.GRADIENT})
    side: ClassVar[Role] = Role.ADVERTISER
    binary_only: ClassVar[bool] = False
    counters: ClassVar[tuple[Counter, ...]] = ({"name": "averaging"},)
    by_class: ClassVar[bool] = True
    """It needs what a gradient would be by class."""

    def __post_init__(self) -> None:
        check_positive(epsilon=self.epsilon)

    def init(self) -> State:
        """Return the empty state: every release draws anew."""
        return {}

    def apply(self, body: Tensor, state: State, ctx: SendContext) -> tuple[Tensor, State]:
        """Return the `(rows, dim)` gradients of noised labels, and the state as it was.

        Raises `ValueError` where the method gives no gradients by class.
        """
        if ctx.by_class is None:
            raise ValueError("grad_perturb needs a method that gives gradients by class, such as vanilla; use tpsl")
        by_class = ctx.by_class().double()
        if ctx.classes == 2:
            draws = laplace((len(body), 1), ctx.generator) / self.epsilon
            return (body + draws * (by_class[1] - by_class[0])).to(body.dtype), state
        draws = laplace((ctx.classes, len(body), 1), ctx.generator) * 2 / self.epsilon
        return (body + (draws * by_class).sum(dim=0)).to(body.dtype), state

    def ledger(self, plan: Plan) -> tuple[Spend, ...]:
        """Return what all epochs spend of a training row's label, given the top's weights."""
        spent = self.epsilon * plan.epochs * plan.receivers
        return (Spend("label of a training row, given the top's weights", "gradients", pure=spent),)
