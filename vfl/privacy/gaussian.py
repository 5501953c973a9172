"""The Gaussian mechanism without subsampling, exactly: what a ratio of sensitivity to noise is worth in epsilon.

Reference: B. Balle, Y.-X. Wang, Improving the Gaussian Mechanism for Differential Privacy: Analytical Calibration and
Optimal Denoising, ICML 2018, https://arxiv.org/abs/1805.06530

A release with sensitivity s and noise std t is known by mu = s / t alone. Releases of mu_1, ..., mu_n, also when each
is chosen after the ones before it, compose to sqrt(sum mu_i^2), exactly (J. Dong, A. Roth, W. J. Su, Gaussian
Differential Privacy, JRSS B 2022, https://arxiv.org/abs/1905.02383). No approximation by a central limit is used.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from scipy.special import log_ndtr, ndtr

_HALVINGS = 200
_LARGEST = 1e9


def composed(mus: Iterable[float]) -> float:
    """Return the mu of several Gaussian releases about the same unit."""
    return math.sqrt(sum(mu * mu for mu in mus))


def delta(mu: float, epsilon: float) -> float:
    """Return the least delta, 0 to 1, at which a Gaussian release of `mu` >= 0 is (`epsilon`, delta)-DP."""
    if mu == 0:
        return 0.0
    lost = math.exp(min(epsilon + float(log_ndtr(-epsilon / mu - mu / 2)), 0.0))
    return max(float(ndtr(-epsilon / mu + mu / 2)) - lost, 0.0)


def epsilon(mu: float, at_delta: float) -> float:
    """Return the least epsilon, from 0, at which a Gaussian release of `mu` is (epsilon, `at_delta`)-DP.

    The figure is rounded up, never down. Raises `ValueError` where `at_delta` is not strictly between 0 and 1.
    """
    if not 0 < at_delta < 1:
        raise ValueError(f"delta: got {at_delta}, allowed above 0 and below 1; 1e-5 is common")
    if delta(mu, 0.0) <= at_delta:
        return 0.0
    return _crossing(lambda value: delta(mu, value) <= at_delta, 0.0)


def mu_for(target_epsilon: float, at_delta: float) -> float:
    """Return the greatest mu whose release is still (`target_epsilon`, `at_delta`)-DP, rounded down."""
    if not target_epsilon > 0:
        raise ValueError(f"epsilon: got {target_epsilon}, allowed above 0; 1 is strong, 10 weak")
    return 1 / _crossing(lambda noise: epsilon(1 / noise, at_delta) <= target_epsilon, 1 / _LARGEST)


def noise_std(sensitivity: float, target_epsilon: float, at_delta: float, releases: int = 1) -> float:
    """Return the least noise std at which `releases` of a query of this L2 sensitivity stay below the target."""
    return sensitivity * math.sqrt(releases) / mu_for(target_epsilon, at_delta)


def _crossing(reached: Callable[[float], bool], low: float) -> float:
    """Return the least number at which `reached` holds, from above: it must hold at every greater one."""
    high = max(low, 1.0)
    while not reached(high):
        low, high = high, 2 * high
        if high > _LARGEST:
            raise ValueError("no epsilon below 1e9 exists for so little noise; add noise")
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (low, middle) if reached(middle) else (middle, high)
    return high
