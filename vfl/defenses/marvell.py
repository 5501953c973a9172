"""Marvell: the gradient noise that makes the two classes hardest to tell apart for its power."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from vfl.defenses import Counter, SendContext, State
from vfl.privacy.sumkl import Noise, TwoClasses, least_sum_kl, noise_for
from vfl.types import Kind, Role


@dataclass(frozen=True)
class Marvell:
    """Gives positives and negatives each their own Gaussian noise, chosen to make sumKL of the two classes least.

    A batch's gradients are modelled as N(mean of positives, v I) and N(mean of negatives, u I). With Delta the
    difference of the means, the noise's mean squared length is `s` * |Delta|^2 (`s` > 0), spread over the line of
    Delta and the directions across it by `vfl.privacy.sumkl.least_sum_kl`. On that model no attacker's leak AUC
    exceeds `vfl.privacy.sumkl.leak_auc_bound`; no epsilon follows from it. `uv` says which variances the model has:
    each class's own (`uv`), their average for both (`same`), or none (`zero`: all noise on the line of Delta). A class
    of a single row has variance 0.

    With `sum_kl` (above 0, in nats) the strength follows each batch: from `s` on it grows by half at a time until the
    batch's sumKL is at most that. (2 - 4 e)^2 asks for an attacker that errs in a share e of its guesses or more.

    A batch of one class has no Delta. Sent bare it would stand out as the only one without noise, and every row of it
    would be known to be negative; so it is noised by the statistics of earlier batches, a moving average that keeps
    the share `decay` (from 0, below 1) at each batch of both classes. Until there is one, the batch's own mean gradient
    stands in for Delta, and both classes have no spread, so that nothing is sent bare; its noise lies on one line and
    is as long as its own mean, so such a first batch may still be told from one of both classes.

    Reference: O. Li, J. Sun, X. Yang, W. Gao, H. Zhang, J. Xie, V. Smith, C. Wang, Label Leakage and Protection in
    Two-party Split Learning, ICLR 2022, https://arxiv.org/abs/2102.08504

    The paper's code leaves out batches of one class, where we send them as above; its solver starts at random and
    cycles, where ours searches one variable and draws nothing.
    """

    s: float = 4.0
    sum_kl: float | None = None
    uv: Literal["uv", "same", "zero"] = "uv"
    decay: float = 0.9

    kinds: ClassVar[frozenset[Kind]] = frozenset({Kind.GRADIENT})
    side: ClassVar[Role] = Role.ADVERTISER
    binary_only: ClassVar[bool] = True
    counters: ClassVar[tuple[Counter, ...]] = ({"name": "averaging"},)
    couples_rows: ClassVar[bool] = True
    reads_labels: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not (math.isfinite(self.s) and self.s > 0):
            raise ValueError(f"s: got {self.s}, allowed any number above 0; 1 is mild, 16 strong")
        if self.sum_kl is not None and not (math.isfinite(self.sum_kl) and self.sum_kl > 0):
            raise ValueError(
                f"sum_kl: got {self.sum_kl}, allowed any number above 0, or null for a fixed s; 0.16 is mild"
            )
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

        What is drawn does not depend on the labels, only its scale does. Raises `ValueError` without labels.
        """
        if ctx.labels is None:
            raise ValueError("marvell needs the sender's labels; mount it at the advertiser")
        positive = ctx.labels == 1
        unit = len(body)
        found = _statistics(body.double() * unit, positive)
        state = self._learn(state, found)
        known = found or state or _of_one_class(body.double() * unit)
        precision = torch.promote_types(body.dtype, torch.float32)
        xi = torch.randn((len(body), 1), generator=ctx.generator, dtype=precision)
        across = torch.randn(body.shape, generator=ctx.generator, dtype=precision)
        line, scales = (part.to(precision) for part in self._shape(known, unit))
        along_std, across_std = scales[positive.long()].split(1, dim=1)
        return (body + along_std * xi * line + across_std * across).to(body.dtype), state

    def _learn(self, state: State, found: State) -> State:
        if not found or not state:
            return found or state
        return {name: self.decay * state[name] + (1 - self.decay) * found[name] for name in state}

    def _shape(self, known: State, unit: int) -> tuple[Tensor, Tensor]:
        """Return the `(dim,)` unit vector of Delta, and the noise std by class (negative first) and part, `(2, 2)`.

        The parts are the noise along the line only, and that in every direction.
        """
        delta = known["delta"]
        length = float(delta.norm())
        if length == 0:
            return delta, torch.zeros(2, 2, dtype=torch.float64)
        best = self._solve(known, length**2, len(delta))
        variances = [
            [best.negative_along - best.negative_across, best.negative_across],
            [best.positive_along - best.positive_across, best.positive_across],
        ]
        return delta / length, torch.tensor(variances, dtype=torch.float64).clamp(min=0).sqrt() / unit

    def _solve(self, known: State, gap: float, dim: int) -> Noise:
        u, v, p = (float(known[name]) for name in ("u", "v", "p"))
        if self.uv == "same":
            u = v = (u + v) / 2
        if self.uv == "zero":
            u = v = 0.0
        classes = TwoClasses(u, v, gap, dim, p)
        if self.sum_kl is None:
            return least_sum_kl(classes, self.s * gap)
        return noise_for(classes, self.s * gap, self.sum_kl)


def _of_one_class(body: Tensor) -> State:
    """Return what stands in for statistics that nobody has yet: the other class's gradients are taken to be zero."""
    none = torch.zeros((), dtype=torch.float64)
    return {"delta": body.sum(dim=0) / max(len(body), 1), "u": none, "v": none, "p": none + 0.5}


def _statistics(body: Tensor, positive: Tensor) -> State:
    """Return `delta`, `u`, `v`, `p` of a `(rows, dim)` batch, or nothing where a class is missing."""
    positives = int(positive.sum())
    if positives in (0, len(body)):
        return {}
    ones, zeros = body[positive], body[~positive]
    centre_ones, centre_zeros = ones.mean(dim=0), zeros.mean(dim=0)
    return {
        "delta": centre_ones - centre_zeros,
        "u": (zeros - centre_zeros).square().mean(),
        "v": (ones - centre_ones).square().mean(),
        "p": torch.tensor(positives / len(body), dtype=torch.float64),
    }
