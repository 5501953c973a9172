"""What a benchmark reports, and how two things are timed in turns."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value beside its reference's; `ratio` above 1 is better than the reference.

    `value` and `reference` are medians over `repeats` turns, `ratio` the median of the turns' own ratios and `spread`
    their least and greatest: other work on the machine moves both sides of a turn alike.
    """

    name: str
    value: float
    unit: str
    reference: float | None
    ratio: float | None
    repeats: int
    spread: tuple[float, float] | None = None


def rate(work: Callable[[], int], seconds: float) -> float:
    """Return how many items a second `work` does, calling it (it returns items done) for about so many seconds."""
    items, began = 0, time.perf_counter()
    while (passed := time.perf_counter() - began) < seconds:
        items += work()
    return items / passed


def in_turns(name: str, work: Callable[[], int], reference: Callable[[], int], repeats: int, seconds: float) -> Figure:
    """Time `work` between two turns of `reference`, `repeats` times, and return the figure in items a second."""
    ours: list[float] = []
    theirs: list[float] = []
    rate(work, seconds / 2)
    before = rate(reference, seconds)
    for _ in range(repeats):
        ours.append(rate(work, seconds))
        after = rate(reference, seconds)
        theirs.append((before + after) / 2)
        before = after
    ratios = [mine / other for mine, other in zip(ours, theirs, strict=True)]
    spread = (min(ratios), max(ratios))
    return Figure(
        name,
        statistics.median(ours),
        "samples/s",
        statistics.median(theirs),
        statistics.median(ratios),
        repeats,
        spread,
    )


def durations(name: str, work: Callable[[], object], reference: Callable[[], object] | None, repeats: int) -> Figure:
    """Time `work` and `reference` in turns and return the figure in seconds; its ratio is theirs over ours."""
    pairs = [(seconds(work), seconds(reference) if reference else None) for _ in range(repeats)]
    ours, theirs = [mine for mine, _ in pairs], [other for _, other in pairs if other is not None]
    if not theirs:
        return Figure(name, statistics.median(ours), "s", None, None, repeats, None)
    ratios = [other / mine for mine, other in zip(ours, theirs, strict=True)]
    ends = (min(ratios), max(ratios))
    return Figure(
        name, statistics.median(ours), "s", statistics.median(theirs), statistics.median(ratios), repeats, ends
    )


def seconds(work: Callable[[], object]) -> float:
    """Return how long a call takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def machine() -> dict[str, Any]:
    """Return what the figures were measured on."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        models = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        cpu = models[0] if models else cpu
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "load": load,
    }


def report(figures: list[Figure]) -> dict[str, Any]:
    """Return figures as the JSON object that `--json` prints."""
    return {"machine": machine(), "figures": [asdict(figure) for figure in figures]}
