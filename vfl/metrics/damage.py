"""Damage: how much oftener the joint model is wrong where an attack tampered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from vfl.attacks import Guess
from vfl.metrics._spoiled import COST, clean_cost
from vfl.metrics.intervals import RESAMPLES, bootstrap_mean, percentile_interval


@dataclass(frozen=True)
class Damage:
    """Marks tampering by the joint model's answers to test rows: wrong ones among tampered rows and among the others.

    `damage` is the first share less the second, 0 where tampering changes nothing; `error` and `clean_error` are the
    two. `clean_cost` is what tampering in training costs the rows that were left alone: how much oftener they are
    answered wrongly than in a run without it (`references: [honest]`).
    """

    resamples: int = RESAMPLES

    headline: ClassVar[str] = "damage"
    more_is_worse: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.resamples < 1:
            raise ValueError(f"resamples: got {self.resamples}, allowed any whole number from 1")

    def result(self, guess: Guess, wrong: Tensor, rng: np.random.Generator) -> dict[str, Any]:
        """Return the figures by name; `wrong` `(n, 2)` is 1 or 0 for test rows by the answer and -1 for all others.

        Its columns are the run's own model and the honest run's.
        """
        hit, answers = guess.scores.numpy() > 0, wrong.double().numpy()
        own = answers[:, 0]
        spoiled, clean = own[hit & (own >= 0)], own[~hit & (own >= 0)]
        if not len(spoiled) or not len(clean):
            return dict.fromkeys(("damage", "error", *COST, "chance", "prior_only", "ci"))
        drawn = [bootstrap_mean(each, rng, self.resamples) for each in (spoiled, clean)]
        return {
            "damage": float(spoiled.mean() - clean.mean()),
            "error": float(spoiled.mean()),
            "chance": {"damage": 0.0},
            "prior_only": 0.0,
            "ci": percentile_interval(drawn[0] - drawn[1]),
            "ci_over": "rows",
            **clean_cost(~hit, answers, rng, self.resamples),
        }
