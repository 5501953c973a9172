"""Leak AUC: how well an attack's scores separate the labels inside each batch, beside what chance would give."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import erfc
from torch import Tensor

from vfl.attacks import Guess
from vfl.metrics.intervals import (
    RESAMPLES,
    Floats,
    bootstrap_auc,
    bootstrap_mean,
    percentile_interval,
    rank,
    weighted_auc,
)

_BISECTIONS = 50


@dataclass(frozen=True)
class LeakAuc:
    """Marks a binary label guess for the referee; a batch is a step, and 0.5 means that nothing leaked.

    `leak_auc` is the mean over batches that hold both classes of the batch's AUC, with the sign that the attack chose.
    `leak_auc_pooled` is one AUC over all entries, batches of one class included, of scores standardised within their
    batch (less its mean, over its standard deviation; 0 where the batch has one score). `abs_q95` is the 95 % quantile
    over batches of |AUC - 0.5|, and `sign_free` the mean of max(AUC, 1 - AUC): neither is fooled by a defense that only
    flips the score's sign in some batches.

    `chance` says what scores drawn at random would give for these batches. It is far from 0.5 where positives are few,
    so read `sign_free` and `abs_q95` against it alone. `prior_only` is the value of an attacker that ignores the wire.

    Every epoch brings the same rows again, in other batches: that tells more about these rows and nothing about others.
    So `ci`, the bootstrap's, is as wide as if each row had been seen once: its distance from the figure is multiplied
    by the root of the mean number of times that a row is scored.

    Reference: O. Li, J. Sun, X. Yang, W. Gao, H. Zhang, J. Xie, V. Smith, C. Wang, Label Leakage and Protection in
    Two-party Split Learning, ICLR 2022, https://arxiv.org/abs/2102.08504

    The paper reports `abs_q95` alone and its code drops batches whose AUC is exactly 0; all batches of both classes
    count here. The chance level takes the AUC of random scores as normal with the exact Mann-Whitney variance
    (n1 + n0 + 1) / (12 n1 n0), and as uniform on its steps where a class has a single row.
    """

    resamples: int = RESAMPLES

    headline: ClassVar[str] = "leak_auc"
    more_is_worse: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.resamples < 1:
            raise ValueError(f"resamples: got {self.resamples}, allowed any whole number from 1")

    def result(self, guess: Guess, labels: Tensor, rng: np.random.Generator) -> dict[str, Any]:
        """Return the figures by name, with the 95 % `ci` of `leak_auc` over batches, of one batch over rows.

        `labels` are the `(n,)` true classes of `guess.rows`. `batches` counts those used and `skipped` those of one
        class; with none to use every figure is `None`. Scores of shape `(n, 2)` count as class 1 less class 0. Raises
        `ValueError` for more than two classes, scores that are not finite, or labels that are not aligned with them.
        """
        scores, positive = _checked(guess, labels)
        _, batch = np.unique(guess.steps.numpy(), return_inverse=True)
        sizes = np.bincount(batch)
        ones = np.bincount(batch, weights=positive, minlength=len(sizes)).astype(np.int64)
        used = (ones > 0) & (ones < sizes)
        auc = batch_auc(scores, positive, batch)[used]
        counts: dict[str, Any] = {"ci_over": "batches", "batches": int(used.sum()), "skipped": int((~used).sum())}
        if not used.any():
            names = ("leak_auc", "leak_auc_pooled", "abs_q95", "sign_free", "chance", "prior_only", "ci")
            return {**dict.fromkeys(names), **counts}
        pooled = weighted_auc(np.ones((1, len(scores))), rank(_standardised(scores, batch), positive))
        return {
            "leak_auc": float(auc.mean()),
            "leak_auc_pooled": float(pooled[0]),
            "abs_q95": float(np.quantile(np.abs(auc - 0.5), 0.95)),
            "sign_free": float(np.maximum(auc, 1 - auc).mean()),
            "chance": chance(ones[used], (sizes - ones)[used]),
            "prior_only": 0.5,
            **counts,
            **self._interval(scores, positive, auc, guess.rows, rng),
        }

    def _interval(
        self, scores: Floats, positive: NDArray[np.bool_], auc: Floats, rows: Tensor, rng: np.random.Generator
    ) -> dict[str, Any]:
        times_seen = len(rows) / len(torch.unique(rows))
        if len(auc) > 1:
            return {"ci": _widened(bootstrap_mean(auc, rng, self.resamples), auc.mean(), times_seen)}
        resampled = bootstrap_auc(scores, positive, rng, self.resamples)
        return {"ci": _widened(resampled, auc.mean(), times_seen), "ci_over": "rows"}


def _widened(resampled: Floats, value: float, times_seen: float) -> list[float] | None:
    """Return the interval of resampled values around `value`, for rows seen once; never beyond 0 and 1."""
    return percentile_interval(np.clip(value + np.sqrt(times_seen) * (resampled - value), 0.0, 1.0))


def batch_auc(scores: Floats, positive: NDArray[np.bool_], batch: NDArray[np.intp]) -> Floats:
    """Return the `(batches,)` AUC of each batch, ties counted half, NaN where a class is missing.

    `batch` `(n,)` numbers the batches from 0. All are ranked by one sort: by batch, then by score.
    """
    sizes = np.bincount(batch)
    ones = np.bincount(batch, weights=positive, minlength=len(sizes))
    order = np.lexsort((scores, batch))
    where, ordered = batch[order], scores[order]
    fresh = np.concatenate([[True], (where[1:] != where[:-1]) | (ordered[1:] != ordered[:-1])])
    firsts = np.flatnonzero(fresh)
    lengths = np.diff(np.append(firsts, len(order)))
    midranks = np.repeat(firsts + (lengths + 1) / 2, lengths) - (np.cumsum(sizes) - sizes)[where]
    won = np.bincount(where, weights=midranks * positive[order], minlength=len(sizes)) - ones * (ones + 1) / 2
    pairs = ones * (sizes - ones)
    return np.divide(won, pairs, out=np.full(len(sizes), np.nan), where=pairs > 0)


def chance(ones: NDArray[np.int64], zeros: NDArray[np.int64]) -> dict[str, float]:
    """Return what random scores give on batches of `(b,)` positives and `(b,)` negatives, each at least 1.

    `leak_auc` is 0.5, `sign_free` the mean of the expected max(AUC, 1 - AUC), and `abs_q95` the value that
    |AUC - 0.5| exceeds in 5 % of the batches.
    """
    spread = np.sqrt((ones + zeros + 1) / (12.0 * ones * zeros))
    others = np.maximum(ones, zeros)
    lone = np.minimum(ones, zeros) == 1
    from_half = np.where(lone, ((others + 1) ** 2 // 4) / ((others + 1) * others), spread * np.sqrt(2 / np.pi))

    def exceeding(distance: float) -> float:
        beyond = 2 * np.maximum(others - np.floor(others * (0.5 + distance)), 0) / (others + 1)
        return float(np.where(lone, beyond, erfc(distance / spread / np.sqrt(2))).mean())

    low, high = 0.0, 0.5
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if exceeding(middle) > 0.05 else (low, middle)
    return {"leak_auc": 0.5, "sign_free": 0.5 + float(from_half.mean()), "abs_q95": high}


def _standardised(scores: Floats, batch: NDArray[np.intp]) -> Floats:
    sizes = np.bincount(batch)
    shifted = scores - scores[np.unique(batch, return_index=True)[1]][batch]
    centred = shifted - (np.bincount(batch, weights=shifted) / sizes)[batch]
    std = np.sqrt(np.bincount(batch, weights=centred**2) / sizes)[batch]
    return np.divide(centred, std, out=np.zeros_like(centred), where=std > 0)


def _checked(guess: Guess, labels: Tensor) -> tuple[Floats, NDArray[np.bool_]]:
    scores = guess.scores.detach().to(torch.float64).numpy()
    if scores.ndim == 2 and scores.shape[1] == 2:
        scores = scores[:, 1] - scores[:, 0]
    classes = labels.detach().numpy()
    if scores.ndim != 1 or classes.shape != scores.shape or guess.steps.shape != labels.shape:
        shapes = f"{tuple(guess.scores.shape)} and {tuple(labels.shape)}"
        raise ValueError(f"scores and labels: got {shapes}, allowed (n,) and (n,); leak AUC marks two classes only")
    if not np.isin(classes, (0, 1)).all():
        raise ValueError(f"labels: got classes up to {classes.max()}, allowed 0 and 1; leak AUC marks two classes only")
    if not np.isfinite(scores).all():
        raise ValueError("scores: got values that are not finite, allowed finite ones; mend the attack")
    return scores, classes == 1
