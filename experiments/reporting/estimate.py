"""A figure and how sure it is: means over seeds with Student's t, differences of the same seeds paired.

Seeds that cut one table again and again share most of its rows, so their figures are no independent draws and their
spread understates how far the mean may be off. Where each draws its test rows anew, the variance of the mean is taken
as that of a figure times (1/n + test rows / training rows) in the place of 1/n.

Reference: C. Nadeau, Y. Bengio, Inference for the Generalization Error, Machine Learning 52, 2003,
https://doi.org/10.1023/A:1024068626366
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from scipy.special import stdtrit

LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean of `n` values, one a seed, and the interval `low` to `high` that it is known to at 95 %.

    `over` says what the interval is over: `seeds`, or, of a single seed, what the run resampled (`rows`, `batches`).
    Without an interval `low` and `high` are `None`: one seed says nothing about another. `shared` is test rows over
    training rows where seeds draw both from one table, else 0.
    """

    value: float
    low: float | None = None
    high: float | None = None
    n: int = 1
    over: str = ""
    std: float | None = None
    shared: float = 0.0

    @property
    def interval(self) -> tuple[float, float] | None:
        """The interval, where there is one."""
        return None if self.low is None or self.high is None else (self.low, self.high)

    def bounds(self, alpha: float) -> tuple[float, float] | None:
        """Return the two-sided interval that misses with probability `alpha`; `None` where seeds give none.

        Values that are all equal have an interval of no width: the figure did not move with the seed.
        """
        if self.n < 2 or self.std is None:
            return None
        reach = _quantile(1 - alpha / 2, self.n - 1) * self.std * math.sqrt(1 / self.n + self.shared)
        return self.value - reach, self.value + reach

    def clipped(self, least: float, most: float) -> Estimate:
        """Return the same with an interval cut to the values that the figure can take."""
        if self.low is None or self.high is None:
            return self
        return replace(self, low=max(self.low, least), high=min(self.high, most))

    def at_most(self, alpha: float) -> float | None:
        """Return the one-sided upper bound that is too low with probability `alpha`."""
        both = self.bounds(2 * alpha)
        return None if both is None else both[1]


@cache
def _quantile(level: float, freedom: int) -> float:
    """Return Student's t quantile; a report asks for the same few thousands of times."""
    return float(stdtrit(freedom, level))


def over_seeds(
    values: Sequence[float], run_interval: Sequence[float] | None = None, over: str = "", shared: float = 0.0
) -> Estimate | None:
    """Return the mean of one value a seed; of a single seed the interval is that of the run itself, `over` its rows.

    `shared` is as in `Estimate`. Missing values are left out; `None` where none is left.
    """
    known = np.asarray([value for value in values if value is not None and math.isfinite(value)], dtype=np.float64)
    if not len(known):
        return None
    mean = float(known.mean())
    if len(known) == 1:
        if run_interval is None:
            return Estimate(mean)
        return Estimate(mean, float(run_interval[0]), float(run_interval[1]), 1, over)
    found = Estimate(mean, None, None, len(known), "seeds", float(known.std(ddof=1)), shared)
    low, high = found.bounds(1 - LEVEL) or (mean, mean)
    return replace(found, low=low, high=high)


def paired(first: Mapping[int, float], second: Mapping[int, float], shared: float = 0.0) -> Estimate | None:
    """Return `first` less `second` over the seeds that both have; `None` where they share none."""
    return over_seeds([first[seed] - second[seed] for seed in sorted(first.keys() & second.keys())], shared=shared)


def seeds_needed(difference: Estimate, bound: float, alpha: float, most: int = 200) -> int | None:
    """Return how many seeds would bring the one-sided upper bound below `bound`, if mean and spread stay as they are.

    `None` where the mean is not below it, the spread is unknown, or more than `most` would be needed, as where seeds
    of one table can never settle it.
    """
    if difference.std is None or difference.value >= bound:
        return None
    counts = np.arange(2, most + 1)
    reach = stdtrit(counts - 1, 1 - alpha) * difference.std * np.sqrt(1 / counts + difference.shared)
    enough = counts[difference.value + reach <= bound]
    return int(enough[0]) if len(enough) else None
