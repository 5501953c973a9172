"""Recovery: how many classes, or category ids, an attack names correctly, beside naming the commonest always."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from vfl.attacks import Guess
from vfl.metrics.intervals import RESAMPLES, percentile_interval, rank, resample_counts, weighted_auc


@dataclass(frozen=True)
class Recovery:
    """Marks a guess that names classes: its decision is the greatest score, ties to the lower class.

    `accuracy` is the share of entries decided correctly, `balanced_accuracy` its mean over the classes present, `auc`
    the mean over those of one class against the rest (`None` with a single class). `chance` is what deciding evenly at
    random gives; `prior_only` (`majority` beside it) the share of the commonest class, which knowing the prior alone
    reaches. `ci` is a bootstrap over rows: all entries of a row are drawn together.
    """

    resamples: int = RESAMPLES

    headline: ClassVar[str] = "accuracy"
    more_is_worse: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.resamples < 1:
            raise ValueError(f"resamples: got {self.resamples}, allowed any whole number from 1")

    def result(self, guess: Guess, labels: Tensor, rng: np.random.Generator) -> dict[str, Any]:
        """Return the figures by name for `(n,)` true classes; `None` each where the guess has no entry.

        Raises `ValueError` for scores that are not `(n, classes)`, not finite, or have no column for a true class.
        """
        scores, truth = guess.scores.detach().double().numpy(), labels.numpy()
        _check(scores, truth)
        if len(truth) == 0:
            return dict.fromkeys(("accuracy", "balanced_accuracy", "auc", "chance", "prior_only", "majority", "ci"))
        right = (scores.argmax(axis=1) == truth).astype(np.float64)
        present, place, counts = np.unique(truth, return_inverse=True, return_counts=True)
        by_class = np.bincount(place, weights=right) / counts
        majority = float(counts.max() / counts.sum())
        return {
            "accuracy": float(right.mean()),
            "balanced_accuracy": float(by_class.mean()),
            "auc": _macro_auc(scores, truth, present),
            "chance": {"accuracy": 1 / scores.shape[1], "balanced_accuracy": 1 / len(present), "auc": 0.5},
            "prior_only": majority,
            "majority": majority,
            "ci": percentile_interval(self._resampled(right, guess.rows.numpy(), rng)),
            "ci_over": "rows",
        }

    def _resampled(self, right: np.ndarray, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        _, row = np.unique(rows, return_inverse=True)
        entries, correct = np.bincount(row).astype(np.float64), np.bincount(row, weights=right)
        drawn = resample_counts(len(entries), self.resamples, rng)
        return np.concatenate([(counts @ correct) / (counts @ entries) for counts in drawn])


def _macro_auc(scores: np.ndarray, truth: np.ndarray, present: np.ndarray) -> float | None:
    if len(present) < 2:
        return None
    once = np.ones((1, len(truth)))
    return float(np.mean([weighted_auc(once, rank(scores[:, c], truth == c))[0] for c in present]))


def _check(scores: np.ndarray, truth: np.ndarray) -> None:
    if scores.ndim != 2 or len(scores) != len(truth):
        shapes = f"{scores.shape} and {truth.shape}"
        raise ValueError(f"scores and labels: got {shapes}, allowed (n, classes) and (n,); give a score each class")
    if len(truth) and (truth.max() >= scores.shape[1] or truth.min() < 0):
        got = f"classes {truth.min()} to {truth.max()} for {scores.shape[1]} scores"
        raise ValueError(f"labels: got {got}, allowed a score for each class; widen the scores")
    if not np.isfinite(scores).all():
        raise ValueError("scores: got values that are not finite, allowed finite ones; mend the attack")
