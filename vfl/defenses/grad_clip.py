"""Long gradients are cut to a length."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from vfl.defenses import SendContext, State
from vfl.defenses._noise import check_positive, clip_rows
from vfl.types import Kind, Role


@dataclass(frozen=True)
class GradClip:
    """Scales every gradient longer than `clip_l2` down to that length; directions stay as they are.

    `clip_l2` (above 0) is the L2 length of one row's gradient of its own loss, without the factor 1/rows of a mean.
    It hides how long a positive's gradient is once both classes are longer than the limit; what is shorter than it
    passes. Without noise no epsilon follows; `clipped_gaussian` adds the noise.

    Reference: M. Abadi, A. Chu, I. Goodfellow, H. B. McMahan, I. Mironov, K. Talwar, L. Zhang, Deep Learning with
    Differential Privacy, CCS 2016, https://arxiv.org/abs/1607.00133

    The paper clips gradients of the weights, and always adds noise.
    """

    clip_l2: float = 0.1

    kinds: ClassVar[frozenset[Kind]] = frozenset({Kind.GRADIENT})
    side: ClassVar[Role] = Role.ADVERTISER
    binary_only: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_positive(clip_l2=self.clip_l2)

    def init(self) -> State:
        """Return the empty state: every batch stands alone."""
        return {}

    def apply(self, body: Tensor, state: State, ctx: SendContext) -> tuple[Tensor, State]:
        """Return the clipped `(rows, dim)` gradients, and the state as it was."""
        return clip_rows(body, self.clip_l2 / max(len(body), 1)).to(body.dtype), state
