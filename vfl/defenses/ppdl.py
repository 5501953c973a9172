"""A few random entries above a noised threshold are sent, cut to a bound and noised."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from vfl.defenses import SendContext, State
from vfl.defenses._noise import check_between, check_positive, laplace, wide
from vfl.types import Kind, Role

_SEARCH, _RELEASE = 8 / 9, 2 / 9
"""Parts of the strength that go into the search and into the release, as in the attack paper's code."""


@dataclass(frozen=True)
class Ppdl:
    """Sends at most the share `fraction` of a batch's entries: those that pass a noised threshold, in random order.

    With c entries allowed, each is cut to +-`bound` (above 0) and passes where its size plus Lap(4 c s / e1) reaches
    `threshold` (from 0) plus Lap(2 c s / e1), where s = 2 `bound`; the first c to pass, in random order, are sent as
    the entry plus Lap(2 c s / e2), cut to +-`bound` again; all others are zero. e1 and e2 are 8/9 and 2/9 of
    `strength`. All are for a row's gradient of its own loss, without the factor 1/rows.

    Reference: R. Shokri, V. Shmatikov, Privacy-Preserving Deep Learning, CCS 2015,
    https://doi.org/10.1145/2810103.2813687

    `strength` is what the paper calls epsilon for one entry of a weight's update. At the cut it is no epsilon for
    anyone's label, and none is claimed: one threshold serves the whole batch, and e1 and e2 add up to more than the
    strength. The defaults are those of the label inference literature, not tuned for any data here.
    """

    strength: float = 1.8
    fraction: float = 0.5
    bound: float = 1e-3
    threshold: float = 1e-4

    kinds: ClassVar[frozenset[Kind]] = frozenset({Kind.GRADIENT})
    side: ClassVar[Role] = Role.ADVERTISER
    binary_only: ClassVar[bool] = False
    couples_rows: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_positive(strength=self.strength, fraction=self.fraction, bound=self.bound)
        check_between(0, 1, fraction=self.fraction)
        if not (math.isfinite(self.threshold) and self.threshold >= 0):
            raise ValueError(f"threshold: got {self.threshold}, allowed any number from 0; 0 lets all entries try")

    def init(self) -> State:
        """Return the empty state: every batch stands alone."""
        return {}

    def apply(self, body: Tensor, state: State, ctx: SendContext) -> tuple[Tensor, State]:
        """Return the `(rows, dim)` gradients with few entries left, and the state as it was."""
        if body.numel() == 0:
            return body.clone(), state
        unit = len(body)
        cut = (body.to(wide(body.dtype)) * unit).clamp(-self.bound, self.bound).flatten()
        allowed = math.ceil(self.fraction * len(cut))
        scale = 2 * allowed * 2 * self.bound / self.strength
        threshold = self.threshold + scale / _SEARCH * laplace((1,), ctx.generator, cut.dtype)
        passes = cut.abs() + 2 * scale / _SEARCH * laplace(cut.shape, ctx.generator, cut.dtype) >= threshold
        chosen = passes.nonzero().flatten()
        if len(chosen) > allowed:
            chosen = chosen[torch.randperm(len(chosen), generator=ctx.generator)[:allowed]]
        noised = cut[chosen] + scale / _RELEASE * laplace(chosen.shape, ctx.generator, cut.dtype)
        sent = torch.zeros_like(cut)
        sent[chosen] = noised.clamp(-self.bound, self.bound)
        return (sent / unit).reshape(body.shape).to(body.dtype), state
