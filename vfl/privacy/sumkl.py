"""sumKL: how well the best attacker can tell two noised classes apart, and the least it can be for a noise power.

The classes' vectors are modelled as Gaussians: negatives around one mean with variance `u` a coordinate, positives
around another with variance `v`. Noise along the line between the means and noise across it are chosen apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

_GOLDEN = (math.sqrt(5) - 1) / 2
_SEARCH_STEPS = 56
_SMALLEST_SHARE = 1e-9
_GROWTH = 1.5


@dataclass(frozen=True, slots=True)
class TwoClasses:
    """The Gaussian model of a batch, in the paper's symbols.

    `u` and `v` are the variances a coordinate of negatives and positives, `gap` is the squared distance between the
    class means, `dim` the number of coordinates and `p` the share of positives, strictly between 0 and 1.
    """

    u: float
    v: float
    gap: float
    dim: int
    p: float


@dataclass(frozen=True, slots=True)
class Noise:
    """Variances of the noise of each class along the line between the means, and of each coordinate across it."""

    positive_along: float
    positive_across: float
    negative_along: float
    negative_across: float

    def power(self, classes: TwoClasses) -> float:
        """Return the noise's mean squared length over the rows of a batch."""
        positive = self.positive_along + (classes.dim - 1) * self.positive_across
        negative = self.negative_along + (classes.dim - 1) * self.negative_across
        return classes.p * positive + (1 - classes.p) * negative


def sum_kl(classes: TwoClasses, noise: Noise) -> float:
    """Return KL(positives, negatives) + KL(negatives, positives) of the noised classes, in nats.

    Infinite where one class has no spread in a direction in which the other, or the gap, has some.
    """
    along = _divergence(classes.u + noise.negative_along, classes.v + noise.positive_along, classes.gap)
    if classes.dim == 1:
        return along
    across = _divergence(classes.u + noise.negative_across, classes.v + noise.positive_across, 0.0)
    return along + (classes.dim - 1) * across


def leak_auc_bound(sum_kl_nats: float) -> float:
    """Return the greatest leak AUC any attacker reaches on classes of this sumKL, between 0.5 and 1."""
    if sum_kl_nats >= 4:
        return 1.0
    return 0.5 + math.sqrt(sum_kl_nats) / 2 - sum_kl_nats / 8


def least_sum_kl(classes: TwoClasses, power: float) -> Noise:
    """Return the noise of mean squared length `power` (above 0) that makes sumKL least; `gap` must be above 0.

    Only the class with the smaller variance is given noise across the line, so one number is free. For each value of
    it the noise along the line has a closed form: the problem is convex along the budget line, so a value outside the
    allowed range is moved to the nearer end. In the logarithm of the free variance, what remains is convex too (the
    whole is a geometric program, and minimising over some variables of a convex function leaves a convex one), so a
    golden-section search finds its minimum. Nothing is drawn at random.

    Reference: O. Li, J. Sun, X. Yang, W. Gao, H. Zhang, J. Xie, V. Smith, C. Wang, Label Leakage and Protection in
    Two-party Split Learning, ICLR 2022, https://arxiv.org/abs/2102.08504

    The paper's solver cycles over three variables from a random start; this search reaches the same minimum.
    """
    low, high = sorted((classes.u / classes.gap, classes.v / classes.gap))
    positives_low = classes.v < classes.u
    share = classes.p if positives_low else 1 - classes.p
    problem = _Scaled(low, high, classes.dim, share, power / classes.gap)
    across = problem.best_across()
    low_along, high_along = (classes.gap * value for value in problem.along(across))
    across *= classes.gap
    if positives_low:
        return Noise(low_along, across, high_along, 0.0)
    return Noise(high_along, 0.0, low_along, across)


def noise_for(classes: TwoClasses, power: float, most_nats: float) -> Noise:
    """Return the best noise of the least power among `power` (above 0) times 1.5^k that brings sumKL to `most_nats`.

    The power grows by half at a time: more always brings sumKL down, towards 0.

    Reference: as `least_sum_kl`; the growth by half is the paper's.
    """
    noise = least_sum_kl(classes, power)
    while sum_kl(classes, noise) > most_nats:
        power *= _GROWTH
        noise = least_sum_kl(classes, power)
    return noise


@dataclass(frozen=True, slots=True)
class _Scaled:
    """The problem in units where the gap is 1; `share` is that of the class with the smaller variance `low`."""

    low: float
    high: float
    dim: int
    share: float
    power: float

    def along(self, across: float) -> tuple[float, float]:
        """Return the best variances along the line, of the low and the high class, given that across it."""
        left = self.power - self.share * (self.dim - 1) * across
        total = left + self.share * self.low + (1 - self.share) * self.high
        ratio = math.sqrt((total + self.share) / (total + 1 - self.share))
        low_total = total / ((1 - self.share) * ratio + self.share)
        low_along = min(max(low_total - self.low, across), left / self.share)
        return low_along, max(left - self.share * low_along, 0.0) / (1 - self.share)

    def value(self, across: float) -> float:
        """Return the least sumKL given the variance across the line."""
        low_along, high_along = self.along(across)
        line = _divergence(self.low + low_along, self.high + high_along, 1.0)
        return line + (self.dim - 1) * _divergence(self.low + across, self.high, 0.0)

    def best_across(self) -> float:
        """Return the variance across the line at the least sumKL; more than equalises the classes is never best."""
        most = min(self.high - self.low, self.power / (self.share * self.dim))
        if self.dim == 1 or most <= 0:
            return 0.0
        least = 0.0 if self.low > 0 else most * _SMALLEST_SHARE
        start, end = math.log(self.low + least), math.log(self.low + most)

        def back(log_variance: float) -> float:
            return min(max(math.exp(log_variance) - self.low, least), most)

        return back(_golden_section(lambda point: self.value(back(point)), start, end))


def _divergence(negative: float, positive: float, gap: float) -> float:
    """Return the two-way KL in nats of two Gaussians on a line, written so that nothing cancels."""
    if negative == positive and gap == 0:
        return 0.0
    if min(negative, positive) <= 0:
        return math.inf
    ratio = negative / positive
    return ((ratio - 1) ** 2 / ratio + gap / negative + gap / positive) / 2


def _golden_section(function: Callable[[float], float], start: float, end: float) -> float:
    inner, outer = end - _GOLDEN * (end - start), start + _GOLDEN * (end - start)
    at_inner, at_outer = function(inner), function(outer)
    for _ in range(_SEARCH_STEPS):
        if at_inner <= at_outer:
            end, outer, at_outer = outer, inner, at_inner
            inner = end - _GOLDEN * (end - start)
            at_inner = function(inner)
        else:
            start, inner, at_inner = inner, outer, at_outer
            outer = start + _GOLDEN * (end - start)
            at_outer = function(outer)
    return inner if at_inner <= at_outer else outer
