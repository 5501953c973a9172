"""How the cost of a round grows with rows, parties, cut width and batch: a fitted exponent each, and a plot.

Of rows the start is timed too: all that comes before the first round, from the table's description to encoded rows.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from experiments.bench.figures import Figure, seconds
from experiments.bench.throughput import STEPS_A_CALL, configuration, open_grid, plain_loop, play_rounds
from experiments.schema import Config

BATCH, WIDTH = 1024, 64
AXES: dict[str, tuple[int, ...]] = {
    "rows": (100_000, 1_000_000, 10_000_000),
    "parties": (2, 3, 5, 9, 16),
    "width": (8, 32, 128, 512),
    "batch": (128, 512, 2048, 8192),
}


@dataclass(frozen=True, slots=True)
class Curve:
    """Milliseconds a round over the values of one axis, ours and the plain loop's, and seconds until the first one."""

    axis: str
    values: tuple[int, ...]
    ours: tuple[float, ...]
    plain: tuple[float, ...]
    opened: tuple[float, ...]


def measure(axes: Sequence[str], repeats: int, plot: Path | None) -> list[Figure]:
    """Return each point's figure, and for each axis the exponent of its upper half beside the plain loop's."""
    curves = [_curve(axis, repeats) for axis in axes]
    if plot is not None:
        draw(curves, plot)
    return [figure for curve in curves for figure in _figures(curve, repeats)]


def exponent(values: Sequence[float], costs: Sequence[float]) -> float:
    """Return the slope of log cost over log value: 1 is proportional, 0 constant."""
    return float(np.polyfit(np.log(values), np.log(costs), 1)[0])


def added(values: Sequence[float], costs: Sequence[float]) -> float:
    """Return the slope of cost over value: what one more costs."""
    return float(np.polyfit(values, costs, 1)[0])


def draw(curves: Sequence[Curve], path: Path) -> None:
    """Write one panel an axis, both scales logarithmic."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, len(curves), figsize=(3.4 * len(curves), 3), squeeze=False, sharey=True)
    for panel, curve in zip(panels[0], curves, strict=True):
        panel.loglog(curve.values, curve.ours, "o-", label="LocalGrid")
        panel.loglog(curve.values, curve.plain, "s--", label="plain loop")
        panel.set_xticks(curve.values, [f"{value:,}" for value in curve.values])
        panel.minorticks_off()
        panel.set_xlabel(curve.axis)
    panels[0][0].set_ylabel("ms a round")
    panels[0][0].legend()
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    plt.close(figure)


def _figures(curve: Curve, repeats: int) -> Iterator[Figure]:
    for value, ours, plain in zip(curve.values, curve.ours, curve.plain, strict=True):
        yield Figure(f"scale/{curve.axis}/{value}", ours, "ms a round", plain, plain / ours, repeats)
    half = (len(curve.values) - 1) // 2
    ours, plain = (exponent(curve.values[half:], costs[half:]) for costs in (curve.ours, curve.plain))
    yield Figure(f"scale/{curve.axis}/exponent", ours, "exponent", plain, None, repeats)
    if curve.axis == "rows":
        for value, opened in zip(curve.values, curve.opened, strict=True):
            yield Figure(f"scale/start/{value}", opened, "s", None, None, 1)
        grows = exponent(curve.values[half:], curve.opened[half:])
        yield Figure("scale/start/exponent", grows, "exponent", 1.0, None, 1)
    if curve.axis == "parties":
        ours, plain = (added(curve.values, costs) for costs in (curve.ours, curve.plain))
        yield Figure("scale/parties/added", ours, "ms a round for one more", plain, plain / ours, repeats)


def _curve(axis: str, repeats: int) -> Curve:
    points = [_point(_config(axis, value), repeats) for value in AXES[axis]]
    ours, plain, opened = zip(*points, strict=True)
    return Curve(axis, AXES[axis], ours, plain, opened)


def _point(config: Config, repeats: int) -> tuple[float, float, float]:
    """Return the milliseconds of our round and of the plain loop's, timed in turns, and the seconds of our start."""
    began = time.perf_counter()
    with TemporaryDirectory() as folder, open_grid(config, Path(folder)) as grid:
        rounds = play_rounds(grid, config)
        opened = time.perf_counter() - began
        loop = plain_loop(config)
        rounds(), loop()
        pairs = [(seconds(rounds), seconds(loop)) for _ in range(repeats)]
    ours, plain = (statistics.median(side) * 1000 / STEPS_A_CALL for side in zip(*pairs, strict=True))
    return ours, plain, opened


def _config(axis: str, value: int) -> Config:
    data: dict[str, Any] = {"name": "experiments.bench.workload:Workload"}
    model: dict[str, Any] = {"bottom": {"name": "mlp", "hidden": [128, 128]}, "top": {"name": "mlp", "hidden": [64]}}
    changed: dict[str, Any] = {"model": {**model, "embedding_dim": value if axis == "width" else WIDTH}}
    if axis == "rows":
        changed["data"] = {**data, "rows": value}
    if axis == "parties":
        changed["data"] = {**data, "rows": 20_000, "parties": value - 1}
    return configuration("W0", value if axis == "batch" else BATCH, "local", **changed)
