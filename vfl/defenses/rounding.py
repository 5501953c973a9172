"""Scores are rounded before they leave."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from vfl.defenses import SendContext, State
from vfl.types import Kind, Role


@dataclass(frozen=True)
class Rounding:
    """Rounds each probability of a score to `digits` decimals (0 to 7), and rows to a sum of 1 again.

    Attacks that solve equations for a publisher's columns need scores to the last digit. Scores go to the referee in
    a run, so what rounding costs shows in utility and calibration. Above two classes a row that rounds to nothing
    becomes even. No epsilon follows. It binds whoever is sent the scores, and not the advertiser, who computes them
    from embeddings that it sees.

    Reference: X. Luo, Y. Wu, X. Xiao, B. C. Ooi, Feature Inference Attack on Model Predictions in Vertical Federated
    Learning, ICDE 2021, https://arxiv.org/abs/2010.10152

    The paper rounds down; ours to the nearest.
    """

    digits: int = 2

    kinds: ClassVar[frozenset[Kind]] = frozenset({Kind.SCORE})
    side: ClassVar[Role] = Role.ADVERTISER
    binary_only: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not 0 <= self.digits <= 7:
            raise ValueError(f"digits: got {self.digits}, allowed from 0 to 7; 2 is coarse")

    def init(self) -> State:
        """Return the empty state: every row stands alone."""
        return {}

    def apply(self, body: Tensor, state: State, ctx: SendContext) -> tuple[Tensor, State]:
        """Return the rounded `(rows, classes)` probabilities, and the state as it was."""
        step = 10.0**self.digits
        rounded = (body.double() * step).round() / step
        if body.shape[1] == 2:
            rounded[:, 0] = 1 - rounded[:, 1]
            return rounded.to(body.dtype), state
        total = rounded.sum(dim=1, keepdim=True)
        even = 1 / max(body.shape[1], 1)
        return (rounded / total.where(total != 0, 1)).where(total != 0, even).to(body.dtype), state
