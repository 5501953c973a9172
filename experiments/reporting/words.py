"""Figures as a person reads them: points of AUC, shares, intervals, bytes and times."""

from __future__ import annotations

from collections.abc import Callable

from experiments.present import size
from experiments.progress import duration
from experiments.reporting.estimate import Estimate
from experiments.reporting.leaks import NAMES, Leak

ABSENT = "–"
__all__ = ["duration", "size"]


def points_of(value: float) -> str:
    """Return a difference of AUC in points, a hundredth each: `0.43 points`."""
    return f"{signed(100 * value)} points"


def signed_points(value: float) -> str:
    """Return a difference of AUC in points, without the word."""
    return signed(100 * value)


def signed(value: float) -> str:
    """Return a number with two digits and a true minus sign."""
    text = f"{value:.2f}"
    return text.replace("-", "−") if float(text) else "0.00"


def share(value: float) -> str:
    """Return a share in per cent, with a digit where it is small."""
    percent = 100 * value
    text = f"{percent:.1f}" if abs(percent) < 10 else f"{percent:.0f}"
    return ("0" if not float(text) else text.replace("-", "−")) + "\u00a0%"


def number(value: float | None, digits: int = 3) -> str:
    """Return a number with fixed digits, a dash where there is none."""
    return ABSENT if value is None else f"{value:.{digits}f}".replace("-", "−")


def interval(estimate: Estimate | None, told: Callable[[float], str]) -> str:
    """Return ` (95 % interval A to B)` for reading on, empty where there is none."""
    if estimate is None or estimate.interval is None:
        return ""
    low, high = told(estimate.interval[0]), told(estimate.interval[1])
    return f" (95\u00a0% interval {low} to\u00a0{high})"


def leak_value(leak: Leak) -> str:
    """Return an attack's headline figure beside what guessing reaches."""
    digits = 3 if leak.figure != "nmse" else 2
    told = f"{NAMES[leak.figure]} {number(leak.value.value, digits)}, guessing {number(leak.floor, digits)}"
    if leak.sign_free is not None and leak.sign_free_chance is not None:
        told += f"; with any sign {number(leak.sign_free.value)}, guessing {number(leak.sign_free_chance)}"
    return told
