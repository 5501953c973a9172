"""Bootstrap intervals: how far a figure would move had other rows, or other batches, been drawn.

A resample of n items is its `(n,)` counts, so a figure is written once, as a function of weights: weights of one give
its value, counts give its resamples. Every draw comes from the generator that is passed in.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

RESAMPLES = 500
_CHUNK_CELLS = 1 << 18


@dataclass(frozen=True, slots=True)
class Ranking:
    """Rows sorted by score once, for any number of weightings: `order` `(n,)`, and where each tied score starts."""

    order: NDArray[np.intp]
    starts: NDArray[np.intp]
    positive: Floats

    def counts(self, weights: Floats) -> tuple[Floats, Floats]:
        """Return the `(r, scores)` weight of positives and of negatives at each distinct score, lowest first."""
        placed = weights[:, self.order]
        ones = placed * self.positive
        zeros = placed - ones
        if len(self.starts) == len(self.order):
            return ones, zeros
        return np.add.reduceat(ones, self.starts, axis=1), np.add.reduceat(zeros, self.starts, axis=1)


def rank(scores: Floats, positive: NDArray[np.bool_]) -> Ranking:
    """Return the ranking of `(n,)` scores by `(n,)` truth."""
    order = np.argsort(scores, kind="stable")
    ordered = scores[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]])) if len(scores) else order
    return Ranking(order, starts, positive[order].astype(np.float64))


def weighted_auc(weights: Floats, ranking: Ranking) -> Floats:
    """Return the `(r,)` areas under the ROC curve for `(r, n)` weights; ties count half, NaN without both classes."""
    return auc_of(*ranking.counts(weights))


def auc_of(ones: Floats, zeros: Floats) -> Floats:
    """Return the same from what `Ranking.counts` gives, for who wants more than one figure of it."""
    beaten = np.cumsum(zeros, axis=1) - zeros / 2
    pairs = ones.sum(axis=1) * zeros.sum(axis=1)
    return _ratio((ones * beaten).sum(axis=1), pairs)


def weighted_average_precision(weights: Floats, ranking: Ranking) -> Floats:
    """Return the `(r,)` average precisions for `(r, n)` weights: mean precision at the positives, tied scores together.

    NaN where a class is absent.
    """
    return average_precision_of(*ranking.counts(weights))


def average_precision_of(ones: Floats, zeros: Floats) -> Floats:
    """Return the same from what `Ranking.counts` gives."""
    hits = np.cumsum(ones[:, ::-1], axis=1)
    taken = hits + np.cumsum(zeros[:, ::-1], axis=1)
    precision = np.divide(hits, taken, out=np.zeros_like(hits), where=taken > 0)
    total = ones.sum(axis=1)
    return _ratio((ones[:, ::-1] * precision).sum(axis=1), np.where(zeros.sum(axis=1) > 0, total, 0.0))


def resample_counts(items: int, resamples: int, rng: np.random.Generator) -> Iterator[Floats]:
    """Yield the counts of `resamples` draws with replacement as `(chunk, items)` arrays, small enough for a cache."""
    chunk = max(1, _CHUNK_CELLS // max(items, 1))
    for start in range(0, resamples, chunk):
        rows = min(chunk, resamples - start)
        drawn = rng.integers(0, max(items, 1), size=(rows, items))
        drawn += np.arange(rows)[:, None] * items
        yield np.bincount(drawn.ravel(), minlength=rows * items).reshape(rows, items).astype(np.float64)


def bootstrap_auc(
    scores: Floats, positive: NDArray[np.bool_], rng: np.random.Generator, resamples: int = RESAMPLES
) -> Floats:
    """Return `(resamples,)` areas under the ROC curve of resampled rows; NaN where a resample misses a class."""
    ranking = rank(scores, positive)
    return np.concatenate([weighted_auc(counts, ranking) for counts in resample_counts(len(scores), resamples, rng)])


def bootstrap_mean(values: Floats, rng: np.random.Generator, resamples: int = RESAMPLES) -> Floats:
    """Return `(resamples,)` means of resampled `(n,)` values, for instance one value a batch."""
    if len(values) == 0:
        return np.full(resamples, np.nan)
    return np.concatenate([counts @ values for counts in resample_counts(len(values), resamples, rng)]) / len(values)


def percentile_interval(resampled: Floats, level: float = 0.95) -> list[float] | None:
    """Return the `[low, high]` that hold the middle `level` of the resampled values; `None` where none exists."""
    values = resampled[~np.isnan(resampled)]
    if len(values) == 0:
        return None
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return [float(low), float(high)]


def two_sided_p(differences: Floats) -> float | None:
    """Return the bootstrap p-value of "there is no difference" from resampled differences, between 0 and 1.

    Twice the share of resamples on the rarer side of 0, each side counted with one more, so it is never exactly 0.
    `None` where no resample exists.
    """
    values = differences[~np.isnan(differences)]
    if len(values) == 0:
        return None
    rarer = min(int((values <= 0).sum()), int((values >= 0).sum()))
    return min(1.0, 2 * (rarer + 1) / (len(values) + 1))


def _ratio(top: Floats, bottom: Floats) -> Floats:
    return np.divide(top, bottom, out=np.full_like(top, np.nan), where=bottom > 0)
