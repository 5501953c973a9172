"""What tampering costs the rows it left alone: the joint model's errors on them, beside an honest run's."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vfl.metrics.intervals import bootstrap_mean, percentile_interval

COST = ("clean_error", "clean_cost", "clean_cost_ci")


def clean_cost(
    clean: NDArray[np.bool_], wrong: NDArray[np.float64], rng: np.random.Generator, resamples: int
) -> dict[str, Any]:
    """Return the share of `clean` rows answered wrongly, and how much more that is than in the run without tampering.

    `wrong` is `(n, 2)`, by the tampered model and by the honest one; the interval is of the difference, row by row.
    The cost is `None` where there was no honest run.
    """
    asked = clean & (wrong[:, 0] >= 0)
    found: dict[str, Any] = dict.fromkeys(COST)
    if asked.any():
        found["clean_error"] = float(wrong[asked, 0].mean())
    both = asked & (wrong[:, 1] >= 0)
    if both.any():
        more = wrong[both, 0] - wrong[both, 1]
        found["clean_cost"] = float(more.mean())
        found["clean_cost_ci"] = percentile_interval(bootstrap_mean(more, rng, resamples))
    return found
