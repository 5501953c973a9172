"""Proportion: how well an attack guesses the share of positives in each batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from vfl.attacks import Guess
from vfl.metrics.intervals import RESAMPLES, percentile_interval, resample_counts


@dataclass(frozen=True)
class Proportion:
    """Marks guessed shares of class 1, one a batch (a step): all entries of a batch carry the same guess.

    `mae` is the mean absolute error, `correlation` that of guesses with true shares over batches. `prior_only` is the
    `mae` of naming the overall share each time, and `chance` that of another batch's share at random.
    """

    resamples: int = RESAMPLES

    headline: ClassVar[str] = "mae"
    more_is_worse: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.resamples < 1:
            raise ValueError(f"resamples: got {self.resamples}, allowed any whole number from 1")

    def result(self, guess: Guess, labels: Tensor, rng: np.random.Generator) -> dict[str, Any]:
        """Return the figures by name, `ci` of `mae` by a bootstrap over batches; `None` each without a batch."""
        if len(labels) == 0:
            return dict.fromkeys(("mae", "correlation", "chance", "prior_only", "ci"))
        _, batch = np.unique(guess.steps.numpy(), return_inverse=True)
        sizes = np.bincount(batch)
        guessed = np.bincount(batch, weights=guess.scores.double().numpy()) / sizes
        true = np.bincount(batch, weights=(labels.numpy() == 1).astype(np.float64)) / sizes
        error = np.abs(guessed - true)
        drawn = resample_counts(len(error), self.resamples, rng)
        varied = guessed.std() > 0 and true.std() > 0
        return {
            "mae": float(error.mean()),
            "correlation": float(np.corrcoef(guessed, true)[0, 1]) if varied else None,
            "chance": {"mae": float(np.abs(true[:, None] - true).mean())},
            "prior_only": float(np.abs(true - true.mean()).mean()),
            "ci": percentile_interval(np.concatenate([counts @ error for counts in drawn]) / len(error)),
            "ci_over": "batches",
        }
