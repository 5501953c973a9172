"""Student's intervals over seeds, as pages show them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats


def half_width(values: Sequence[float]) -> float:
    """Return half of the 95 % t-interval of a mean over seeds; infinite for one seed."""
    if len(values) < 2:
        return math.inf
    return float(stats.t.ppf(0.975, len(values) - 1)) * float(np.std(values, ddof=1)) / math.sqrt(len(values))


def interval(values: Sequence[float], *, sign: bool = False) -> str:
    """Return a mean and its 95 % t-interval over seeds."""
    mean = float(np.mean(values))
    shown = f"{mean:+.3f}" if sign else f"{mean:.3f}"
    return shown if len(values) < 2 else f"{shown} ± {half_width(values):.3f}"
