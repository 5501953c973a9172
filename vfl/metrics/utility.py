"""What a model is worth on test rows, with intervals; and what joint training adds over training alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vfl.metrics.intervals import (
    RESAMPLES,
    Floats,
    Ranking,
    auc_of,
    average_precision_of,
    percentile_interval,
    rank,
    resample_counts,
    two_sided_p,
)

_CERTAIN = 1e-7
LEAST_ROWS = 20
"""Fewer rows give no interval: resamples of a handful say nothing of how far a figure would move."""

GAIN_RESAMPLES = 2000
"""Of the gain, whose p-value has `2 / (resamples + 1)` as its least."""
_ROUNDING = 1e-2


@dataclass(frozen=True)
class Utility:
    """Scores predicted probabilities against labels for the referee, each figure with its 95 % interval.

    Figures: `auc` and `pr_auc` (average precision), macro one-against-rest above two classes; `log_loss` in nats;
    `ne`, log loss over the entropy of the base rate, below 1 where the model beats it; `ece`, the expected
    calibration error over `bins` bins of equal mass (of p, or of the winning class's p above two classes);
    `calibration_ratio`, sum of p over sum of y, two classes only; `accuracy` at p > 1/2, or of the likeliest class.
    `reliability` holds `[mean p, share that came true, rows]` for each bin of `ece`, lowest p first, without intervals.

    Reference: X. He et al., Practical Lessons from Predicting Clicks on Ads at Facebook (normalised entropy), ADKDD
    2014, https://doi.org/10.1145/2648584.2648589

    Where we differ: probabilities are kept `1e-7` from 0 and 1 in the log loss; equal probabilities share a bin, and a
    resample keeps its rows' bins. A resampled ECE is inflated by the drawing, so its interval is moved down by the
    mean inflation and cut at 0.
    """

    resamples: int = RESAMPLES
    bins: int = 15

    def __post_init__(self) -> None:
        for name, least in (("resamples", 1), ("bins", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}: got {getattr(self, name)}, allowed any whole number from {least}")

    def result(self, probabilities: Tensor, labels: Tensor, rng: np.random.Generator) -> dict[str, Any]:
        """Return every figure by name, and `ci`: the figure's `[low, high]` by percentile bootstrap over rows.

        `probabilities` are `(n,)` of class 1, or `(n, K)`; `labels` `(n,)` int64 classes. A figure that does not
        exist, such as an AUC on rows of one class, is `None`, and so is its interval; so are intervals of fewer
        than `LEAST_ROWS` rows. Raises `ValueError` for shapes
        that do not match, probabilities outside 0 to 1 or not summing to 1, or labels that are not classes.
        """
        rows = _rows(probabilities, labels, self.bins)
        figures = _figures(np.ones((1, len(rows.loss))), rows)
        drawn = [_figures(counts, rows) for counts in resample_counts(len(rows.loss), self.resamples, rng)]
        few = len(rows.loss) < LEAST_ROWS
        values = {name: _number(value[0]) for name, value in figures.items()}
        resampled = {name: np.concatenate([chunk[name] for chunk in drawn]) for name in figures}
        intervals = {
            name: None if value is None or few else percentile_interval(resampled[name])
            for name, value in values.items()
        }
        if values["ece"] is not None and not few:
            inflation = float(resampled["ece"].mean()) - values["ece"]
            intervals["ece"] = percentile_interval(np.maximum(resampled["ece"] - inflation, 0.0))
        return {**values, "reliability": _reliability(rows), "ci": intervals}


def gain(
    joint: Tensor, alone: Tensor, labels: Tensor, rng: np.random.Generator, resamples: int = GAIN_RESAMPLES
) -> dict[str, dict[str, Any]]:
    """Return what `joint` probabilities add over `alone` on the same rows: `auc` and `log_loss`, positive is better.

    Shapes are those of `Utility.result`. Each holds `value`, its 95 % interval `ci`, and the two-sided `p` of no
    difference; both models are scored on the same resamples of rows (a paired bootstrap). The gain in `log_loss` is
    its reduction. What does not exist is `None`. Raises as `Utility.result` does.
    """
    ours, theirs = _rows(joint, labels, 1), _rows(alone, labels, 1)
    value = _gains(np.ones((1, len(ours.loss))), ours, theirs)
    drawn = [_gains(counts, ours, theirs) for counts in resample_counts(len(ours.loss), resamples, rng)]
    few = len(ours.loss) < LEAST_ROWS
    return {name: _compared(value[name], np.concatenate([chunk[name] for chunk in drawn]), few) for name in value}


def _gains(weights: Floats, ours: _Rows, theirs: _Rows) -> dict[str, Floats]:
    return {
        "auc": _macro(auc_of, _counted(weights, ours)) - _macro(auc_of, _counted(weights, theirs)),
        "log_loss": _mean(weights, theirs.loss) - _mean(weights, ours.loss),
    }


def _compared(value: Floats, resampled: Floats, few: bool) -> dict[str, Any]:
    known = _number(value[0])
    if known is None or few:
        return {"value": known, "ci": None, "p": None}
    return {"value": known, "ci": percentile_interval(resampled), "p": two_sided_p(resampled)}


@dataclass(frozen=True, slots=True)
class _Rows:
    """What the figures need of the rows, worked out once: each array has one entry a row, in the given order.

    `truth` `(n, K)` marks the label; `binned` `(n, bins)` holds confidence less outcome in the row's bin, 0 elsewhere;
    `bins` `(n,)` is that bin, of the `(n,)` confidence and outcome.
    """

    probabilities: Floats
    truth: Floats
    loss: Floats
    correct: Floats
    binned: Floats
    bins: NDArray[np.int64]
    confidence: Floats
    outcome: Floats
    rankings: tuple[Ranking, ...]

    @property
    def binary(self) -> bool:
        return self.truth.shape[1] == 2


def _rows(probabilities: Tensor, labels: Tensor, bins: int) -> _Rows:
    p, y = _checked(probabilities, labels)
    truth = np.eye(p.shape[1])[y]
    chosen = np.clip(p[np.arange(len(y)), y], _CERTAIN, 1 - _CERTAIN)
    correct = (p.argmax(axis=1) == y).astype(np.float64)
    confidence, outcome = (p[:, 1], truth[:, 1]) if p.shape[1] == 2 else (p.max(axis=1), correct)
    binned = np.zeros((len(y), bins))
    place = _equal_mass_bins(confidence, bins)
    binned[np.arange(len(y)), place] = confidence - outcome
    classes = [1] if p.shape[1] == 2 else range(p.shape[1])
    rankings = tuple(rank(p[:, k], truth[:, k] > 0) for k in classes)
    return _Rows(p, truth, -np.log(chosen), correct, binned, place, confidence, outcome, rankings)


def _checked(probabilities: Tensor, labels: Tensor) -> tuple[Floats, NDArray[np.int64]]:
    p = probabilities.detach().to(torch.float64).numpy()
    y = labels.detach().numpy().astype(np.int64)
    if p.ndim == 1:
        p = np.stack([1 - p, p], axis=1)
    if p.ndim != 2 or y.shape != p.shape[:1] or p.shape[1] < 2:
        shapes = f"{tuple(probabilities.shape)} and {tuple(labels.shape)}"
        raise ValueError(f"probabilities and labels: got {shapes}, allowed (n,) or (n, K) and (n,); align the rows")
    if not bool(((p >= 0) & (p <= 1)).all()):
        raise ValueError("probabilities: got values that are not between 0 and 1; apply sigmoid or softmax first")
    if np.abs(p.sum(axis=1) - 1).max(initial=0.0) > _ROUNDING:
        raise ValueError("probabilities: got rows that do not sum to 1; apply softmax first")
    if len(y) and (y.min() < 0 or y.max() >= p.shape[1]):
        raise ValueError(f"labels: got {y.min()} to {y.max()}, allowed 0 to {p.shape[1] - 1}; encode them as classes")
    return p, y


def _equal_mass_bins(values: Floats, bins: int) -> NDArray[np.int64]:
    """Return the `(n,)` bin of each value: bins of near n / `bins` values in rising order, equal values together."""
    place = np.searchsorted(np.sort(values), values, side="left")
    return place * bins // max(len(values), 1)


def _reliability(rows: _Rows) -> list[list[float | int]]:
    """Return mean confidence, mean outcome and number of rows of each bin that holds a row."""
    counts = np.bincount(rows.bins)
    said = np.bincount(rows.bins, weights=rows.confidence)
    came = np.bincount(rows.bins, weights=rows.outcome)
    held = counts > 0
    means = zip(said[held] / counts[held], came[held] / counts[held], counts[held], strict=True)
    return [[float(p), float(share), int(count)] for p, share, count in means]


def _figures(weights: Floats, rows: _Rows) -> dict[str, Floats]:
    """Return each figure as `(r,)` for `(r, n)` weights, NaN where it does not exist."""
    total = weights.sum(axis=1)
    log_loss = _mean(weights, rows.loss)
    shares = _divided(weights @ rows.truth, total[:, None])
    entropy = -(shares * np.log(np.where(shares > 0, shares, 1.0))).sum(axis=1)
    if rows.binary:
        ratio = _divided(weights @ rows.probabilities[:, 1], weights @ rows.truth[:, 1])
    else:
        ratio = np.full_like(total, np.nan)
    counted = _counted(weights, rows)
    return {
        "auc": _macro(auc_of, counted),
        "pr_auc": _macro(average_precision_of, counted),
        "log_loss": log_loss,
        "ne": _divided(log_loss, entropy),
        "ece": _divided(np.abs(weights @ rows.binned).sum(axis=1), total),
        "calibration_ratio": ratio,
        "accuracy": _mean(weights, rows.correct),
    }


def _counted(weights: Floats, rows: _Rows) -> list[tuple[Floats, Floats]]:
    return [ranking.counts(weights) for ranking in rows.rankings]


def _macro(figure: Callable[[Floats, Floats], Floats], counted: Sequence[tuple[Floats, Floats]]) -> Floats:
    """Return the mean over classes of a figure of `Ranking.counts`, classes where it does not exist left out."""
    each = np.stack([figure(ones, zeros) for ones, zeros in counted])
    known = ~np.isnan(each)
    return _divided(np.where(known, each, 0.0).sum(axis=0), known.sum(axis=0).astype(np.float64))


def _mean(weights: Floats, values: Floats) -> Floats:
    return _divided(weights @ values, weights.sum(axis=1))


def _divided(top: Floats, bottom: Floats) -> Floats:
    top, bottom = np.broadcast_arrays(top, bottom)
    return np.divide(top, bottom, out=np.full(top.shape, np.nan), where=bottom > 0)


def _number(value: np.float64) -> float | None:
    return None if np.isnan(value) else float(value)
