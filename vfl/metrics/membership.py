"""Membership: how well an attack tells rows that were trained on, at false alarm rates a person would act on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from vfl.attacks import Guess
from vfl.metrics.intervals import RESAMPLES, Floats, bootstrap_auc, percentile_interval, rank, weighted_auc

RATES = (0.001, 0.01, 0.1)


@dataclass(frozen=True)
class Membership:
    """Marks membership scores: `auc`, and the true positive rate at false positive rates of .1, 1 and 10 %.

    At a rate r the threshold is the strictest that flags no more than r of the outsiders; `chance` is r itself, and
    0.5 for `auc`. A row counts once, by its mean score.

    Reference: N. Carlini, S. Chien, M. Nasr, S. Song, A. Terzis, F. Tramer, Membership Inference Attacks From First
    Principles, IEEE S&P 2022, https://arxiv.org/abs/2112.03570 (the rates, not the attack)
    """

    resamples: int = RESAMPLES

    headline: ClassVar[str] = "auc"
    more_is_worse: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.resamples < 1:
            raise ValueError(f"resamples: got {self.resamples}, allowed any whole number from 1")

    def result(self, guess: Guess, members: Tensor, rng: np.random.Generator) -> dict[str, Any]:
        """Return the figures by name for `(n,)` truth (1 = trained on); `None` each without both kinds of row.

        Raises `ValueError` for scores that are not `(n,)` or not finite.
        """
        scores = guess.scores.detach().double().numpy()
        if scores.shape != tuple(members.shape) or not np.isfinite(scores).all():
            got = f"{scores.shape} for {tuple(members.shape)}"
            raise ValueError(f"scores: got {got}, allowed one finite number a row; mend the attack")
        rows, place, counts = np.unique(guess.rows.numpy(), return_inverse=True, return_counts=True)
        mean = np.bincount(place, weights=scores, minlength=len(rows)) / np.maximum(counts, 1)
        inside = np.bincount(place, weights=members.numpy(), minlength=len(rows)) > 0
        names = [f"tpr_at_{rate:g}" for rate in RATES]
        if not inside.any() or inside.all():
            return dict.fromkeys(("auc", *names, "chance", "prior_only", "ci"))
        return {
            "auc": float(weighted_auc(np.ones((1, len(mean))), rank(mean, inside))[0]),
            **{name: tpr_at(mean, inside, rate) for name, rate in zip(names, RATES, strict=True)},
            "chance": {"auc": 0.5, **dict(zip(names, RATES, strict=True))},
            "prior_only": 0.5,
            "ci": percentile_interval(bootstrap_auc(mean, inside, rng, self.resamples)),
            "ci_over": "rows",
        }


def tpr_at(scores: Floats, inside: np.ndarray, rate: float) -> float:
    """Return the share of members above the strictest threshold that flags at most `rate` of the others."""
    outside = np.sort(scores[~inside])[::-1]
    threshold = outside[min(int(np.floor(rate * len(outside))), len(outside) - 1)]
    return float((scores[inside] > threshold).mean())
