"""Attack success rate: how often the joint model gives tampered rows the class that the attacker wants."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from vfl.attacks import Guess
from vfl.metrics._spoiled import COST, clean_cost
from vfl.metrics.intervals import RESAMPLES, bootstrap_mean, percentile_interval


@dataclass(frozen=True)
class Backdoor:
    """Marks a targeted attack by the joint model's answers to test rows that are not of the wanted class.

    `asr` is the share of tampered ones that get the wanted class, with a bootstrap interval over rows; chance, and what
    is reached without tampering, is that share among the others (`clean_rate`). `clean_error` and `clean_cost` are what
    rows left alone pay for it, as `damage` has them.
    """

    resamples: int = RESAMPLES

    headline: ClassVar[str] = "asr"
    more_is_worse: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.resamples < 1:
            raise ValueError(f"resamples: got {self.resamples}, allowed any whole number from 1")

    def result(self, guess: Guess, answers: Tensor, rng: np.random.Generator) -> dict[str, Any]:
        """Return the figures by name; `answers` `(n, 3)` are whether a row got the wanted class, and who was wrong.

        The last two columns are the run's own model and the honest run's; -1 is a row that does not count.
        """
        hit, told = guess.scores.numpy() > 0, answers.double().numpy()
        turned = told[:, 0]
        tampered, others = turned[hit & (turned >= 0)], turned[~hit & (turned >= 0)]
        if not len(tampered) or not len(others):
            return dict.fromkeys(("asr", "clean_rate", *COST, "chance", "prior_only", "ci"))
        rate = float(others.mean())
        return {
            "asr": float(tampered.mean()),
            "clean_rate": rate,
            "chance": {"asr": rate},
            "prior_only": rate,
            "ci": percentile_interval(bootstrap_mean(tampered, rng, self.resamples)),
            "ci_over": "rows",
            **clean_cost(~hit, told[:, 1:], rng, self.resamples),
        }
