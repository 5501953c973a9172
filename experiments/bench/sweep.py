"""What a second worker is worth to a sweep, and what a trial costs beyond its own run, once workers are up."""

from __future__ import annotations

import logging
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from experiments import results
from experiments.bench.figures import Figure
from experiments.config import parse
from experiments.progress import Silent
from experiments.run import prepare
from experiments.sweep import Trial, Workers, sweep

RUN: dict[str, Any] = {
    "backend": "local",
    "train": {"epochs": 2, "batch_size": 512, "checkpoint_every": 0},
    "attack": [{"name": "norm"}],
    "references": [],
    "record": {"keep": "marks"},
}


def measure(trials: int, data: str = "adult") -> list[Figure]:
    """Return trials a minute of two workers beside one's, and what a trial takes besides its run and its training."""
    one, two = _timed(1, trials, data, RUN), _timed(2, trials, data, RUN)
    bare = _timed(1, trials, data, RUN | {"attack": []})
    rates = [60 * trials / each.wall_s for each in (one, two)]
    return [
        Figure("sweep/two_workers", rates[1], "trials/min", rates[0], rates[1] / rates[0], 1),
        Figure("sweep/overhead", 1000 * (one.wall_s - one.runs_s) / trials, "ms a trial", None, None, 1),
        Figure("sweep/besides_training", 1000 * (bare.wall_s - bare.training_s) / trials, "ms a trial", None, None, 1),
    ]


@dataclass(frozen=True, slots=True)
class Timed:
    """Seconds of a sweep on warm workers: in all, in its trials' runs, and in their training alone."""

    wall_s: float
    runs_s: float
    training_s: float


def _timed(workers: int, trials: int, data: str, run: dict[str, Any]) -> Timed:
    ray.init(address="local", num_cpus=workers, include_dashboard=False, logging_level=logging.ERROR)
    try:
        with tempfile.TemporaryDirectory(prefix="vfl-bench-") as folder:
            warm = _trials(range(1000, 1000 + 2 * workers), data, run)
            sweep(warm, Path(folder) / "warm", Workers(workers), False, Silent())
            asked, out = _trials(range(trials), data, run), Path(folder) / "timed"
            began = time.perf_counter()
            sweep(asked, out, Workers(workers), False, Silent())
            wall_s, rows = time.perf_counter() - began, results.rows(out)
            return Timed(wall_s, _total(rows, "cost.total_s"), _total(rows, "cost.wall_s"))
    finally:
        ray.shutdown()


def _total(rows: list[results.Row], column: str) -> float:
    return float(sum(row[column] for row in rows))


def _trials(seeds: range, data: str, run: dict[str, Any]) -> list[Trial]:
    prepared = [prepare(parse({**run, "seed": seed, "data": data})) for seed in seeds]
    return [Trial(key, config) for config, _, key in prepared]
