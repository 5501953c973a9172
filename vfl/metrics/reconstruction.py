"""Reconstruction: how near an attack's feature values come, beside guessing each column's mean or mode."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from vfl.attacks import Guess
from vfl.metrics._pictures import similarity
from vfl.metrics.intervals import RESAMPLES, Floats, percentile_interval, resample_counts

EXACT = 1e-3


@dataclass(frozen=True)
class Reconstruction:
    """Marks guessed feature values, column by column, in the units of the encoder (numbers standardised).

    `nmse` is the mean over columns of the mean squared error over the column's variance among the marked rows: 1 is
    what its mean gives (`prior_only`), 2 what a random other row gives (`chance`), 0 is exact. `mse` is without the
    division, `psnr_db` 10 log10(range^2 / mse) averaged over columns that vary and are not exact, `exact` the share of
    values within 0.001 of the truth, `exact_prior` that of each column's commonest value. Category ids are numbers of
    no order: read `exact` for them, and have an attack guess numeric columns apart. Columns without variance are left
    out of `nmse`. Where the columns are the pixels of a picture, `ssim` is the structural similarity and `ssim_prior`
    that of the mean picture; pixels are standardised one by one, which published values are not.
    """

    resamples: int = RESAMPLES

    headline: ClassVar[str] = "nmse"
    more_is_worse: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.resamples < 1:
            raise ValueError(f"resamples: got {self.resamples}, allowed any whole number from 1")

    def result(self, guess: Guess, values: Tensor, rng: np.random.Generator) -> dict[str, Any]:
        """Return the figures by name for `(n, columns)` true values, `ci` of `nmse` by a bootstrap over rows.

        Raises `ValueError` for another shape, or scores that are not finite.
        """
        found, truth = guess.scores.detach().double().numpy(), values.double().numpy()
        if found.shape != truth.shape or found.ndim != 2:
            shapes = f"{found.shape} and {truth.shape}"
            raise ValueError(f"scores and values: got {shapes}, allowed (n, columns) twice; guess each column named")
        if not np.isfinite(found).all():
            raise ValueError("scores: got values that are not finite, allowed finite ones; mend the attack")
        if len(truth) == 0:
            return dict.fromkeys(("nmse", "mse", "psnr_db", "exact", "chance", "prior_only", "exact_prior", "ci"))
        error = (found - truth) ** 2
        return {
            **_figures(error, truth),
            **similarity(guess.scores.detach(), values, guess.columns),
            "chance": {"nmse": 2.0, "mse": float(2 * truth.var(axis=0).mean())},
            "prior_only": 1.0,
            "ci": self._interval(error, truth, rng),
            "ci_over": "rows",
        }

    def _interval(self, error: Floats, truth: Floats, rng: np.random.Generator) -> list[float] | None:
        variance = truth.var(axis=0)
        if not (variance > 0).any():
            return None
        by_row = (error[:, variance > 0] / variance[variance > 0]).mean(axis=1)
        drawn = resample_counts(len(by_row), self.resamples, rng)
        return percentile_interval(np.concatenate([counts @ by_row for counts in drawn]) / len(by_row))


def _figures(error: Floats, truth: Floats) -> dict[str, Any]:
    mse, variance, span = error.mean(axis=0), truth.var(axis=0), np.ptp(truth, axis=0)
    varied, rated = variance > 0, (span > 0) & (mse > 0)
    psnr = 10 * np.log10(span[rated] ** 2 / mse[rated])
    commonest = [np.unique(column, return_counts=True)[1].max() / len(column) for column in truth.T]
    return {
        "nmse": float((mse[varied] / variance[varied]).mean()) if varied.any() else None,
        "mse": float(mse.mean()),
        "psnr_db": float(psnr.mean()) if rated.any() else None,
        "exact": float((error <= EXACT**2).mean()),
        "exact_prior": float(np.mean(commonest)),
    }
