"""Marvell: the gradient noise that makes the two classes hardest to tell apart for its power."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from vfl.defenses import SendContext, State
from vfl.privacy.sumkl import Noise, TwoClasses, least_sum_kl
from vfl.types import Kind, Role


@dataclass(frozen=True)
class Marvell:
    """Gives positives and negatives each their own Gaussian noise, chosen to make sumKL of the two classes least.

    A batch's gradients are modelled as N(mean of positives, v I) and N(mean of negatives, u I). With Delta the
    difference of the means, the noise's mean squared length is `s` * |Delta|^2 (`s` > 0), spread over the line of
    Delta and the directions across it by `vfl.privacy.sumkl.least_sum_kl`. On that model no attacker's leak AUC
    exceeds `vfl.privacy.sumkl.leak_auc_bound`; no epsilon follows from it. `uv` says which variances the model has:
    each class's own (`uv`), their average for both (`same`), or none (`zero`: all noise on the line of Delta).

    A batch of one class has no Delta. Sent bare it would stand out as the only one without noise, and every row of it
    would be known to be negative; so it is noised by the statistics of earlier batches, a moving average that keeps
    the share `decay` (from 0, below 1) at each batch of both classes. Until there is one, it is sent as zeros.

    Reference: O. Li, J. Sun, X. Yang, W. Gao, H. Zhang, J. Xie, V. Smith, C. Wang, Label Leakage and Protection in
    Two-party Split Learning, ICLR 2022, https://arxiv.org/abs/2102.08504

    The paper's code leaves out batches of one class, where we send them as above; its solver starts at random and
    cycles, where ours searches one variable and draws nothing. `s` is fixed: the paper's growing `s` is left out.
    """

    s: float = 4.0
    uv: Literal["uv", "same", "zero"] = "uv"
    decay: float = 0.9

    kinds: ClassVar[frozenset[Kind]] = frozenset({Kind.GRADIENT})
    side: ClassVar[Role] = Role.ADVERTISER
    binary_only: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not (math.isfinite(self.s) and self.s > 0):
            raise ValueError(f"s: got {self.s}, allowed any number above 0; 1 is mild, 16 strong")
        if self.uv not in ("uv", "same", "zero"):
            raise ValueError(f"uv: got {self.uv!r}, allowed 'uv', 'same' or 'zero'; the paper's own is 'uv'")
        if not 0 <= self.decay < 1:
            raise ValueError(f"decay: got {self.decay}, allowed from 0 to below 1; 0 keeps the last batch alone")

    def init(self) -> State:
        """Return the empty state.

        Once a batch held both classes it has float64 `delta` `(dim,)` and `u`, `v`, `p` `()`, for gradients without
        the factor 1/rows.
        """
        return {}

    def apply(self, body: Tensor, state: State, ctx: SendContext) -> tuple[Tensor, State]:
        """Return the noised `(rows, dim)` gradients and the next state; only the labels' owner can run it.

        Raises `ValueError` without labels.
        """
        if ctx.labels is None:
            raise ValueError("marvell needs the sender's labels; mount it at the advertiser")
        positive = ctx.labels == 1
        exact = body.double()
        unit = len(body) if ctx.loss_reduction == "mean" else 1
        found = _statistics(exact * unit, positive)
        state = self._learn(state, found)
        known = found or state
        if not known:
            return torch.zeros_like(body), state
        return (exact + self._noise(known, positive, ctx.generator) / unit).to(body.dtype), state

    def _learn(self, state: State, found: State) -> State:
        if not found or not state:
            return found or state
        return {name: self.decay * state[name] + (1 - self.decay) * found[name] for name in state}

    def _noise(self, known: State, positive: Tensor, generator: torch.Generator) -> Tensor:
        """Return the `(rows, dim)` noise of a batch; the draws do not depend on the labels, only their scales do."""
        delta = known["delta"]
        rows, dim = len(positive), len(delta)
        length = delta.norm()
        xi = torch.randn((rows, 1), generator=generator, dtype=torch.float64)
        across = torch.randn((rows, dim), generator=generator, dtype=torch.float64)
        if length == 0:
            return torch.zeros_like(across)
        best = self._solve(known, float(length) ** 2, dim)
        scales = torch.tensor(
            [
                [math.sqrt(best.negative_along - best.negative_across), math.sqrt(best.negative_across)],
                [math.sqrt(best.positive_along - best.positive_across), math.sqrt(best.positive_across)],
            ],
            dtype=torch.float64,
        )[positive.long()]
        return (scales[:, :1] * xi) * (delta / length) + scales[:, 1:] * across

    def _solve(self, known: State, gap: float, dim: int) -> Noise:
        u, v, p = (float(known[name]) for name in ("u", "v", "p"))
        if self.uv == "same":
            u = v = (u + v) / 2
        if self.uv == "zero":
            u = v = 0.0
        return least_sum_kl(TwoClasses(u, v, gap, dim, p), self.s * gap)


def _statistics(body: Tensor, positive: Tensor) -> State:
    """Return `delta`, `u`, `v`, `p` of a `(rows, dim)` batch, or nothing where a class is missing."""
    positives = int(positive.sum())
    if positives in (0, len(body)):
        return {}
    ones, zeros = body[positive], body[~positive]
    return {
        "delta": ones.mean(dim=0) - zeros.mean(dim=0),
        "u": zeros.var(dim=0, correction=0).mean(),
        "v": ones.var(dim=0, correction=0).mean(),
        "p": torch.tensor(positives / len(body), dtype=torch.float64),
    }
