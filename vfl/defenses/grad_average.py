"""Every row is sent the batch's mean gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from vfl.defenses import SendContext, State
from vfl.types import Kind, Role


@dataclass(frozen=True)
class GradAverage:
    """Sends the mean of the batch's gradients in place of each of them, so rows cannot be told apart within a batch.

    All rows of the `(rows, dim)` body are equal, hence no attack that compares rows of one batch beats chance. The
    share of positives in the batch still shows in the mean. What one row's features are worth is lost with the
    difference between rows: it is an upper end of privacy to hold others against, not a way to train.

    Reference: SecretFlow, gradient average defense of its split learning, https://github.com/secretflow/secretflow

    There two classes are asked for; a mean needs no labels, so ours takes any number.
    """

    kinds: ClassVar[frozenset[Kind]] = frozenset({Kind.GRADIENT})
    side: ClassVar[Role] = Role.ADVERTISER
    binary_only: ClassVar[bool] = False
    couples_rows: ClassVar[bool] = True

    def init(self) -> State:
        """Return the empty state: every batch stands alone."""
        return {}

    def apply(self, body: Tensor, state: State, ctx: SendContext) -> tuple[Tensor, State]:
        """Return the mean of the `(rows, dim)` gradients in every row, and the state as it was."""
        if body.numel() == 0:
            return body.clone(), state
        return body.double().mean(dim=0, keepdim=True).to(body.dtype).expand_as(body).clone(), state
