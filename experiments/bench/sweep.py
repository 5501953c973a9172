"""What a second worker is worth to a sweep, and what a trial costs beyond its own run, once workers are up."""

from __future__ import annotations

import logging
import tempfile
import time
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
    """Return trials a minute of two workers beside one's, and seconds a trial takes besides its run."""
    rates, overhead = {}, 0.0
    for workers in (1, 2):
        wall_s, inside_s = _timed(workers, trials, data)
        rates[workers] = 60 * trials / wall_s
        if workers == 1:
            overhead = (wall_s - inside_s) / trials
    return [
        Figure("sweep/two_workers", rates[2], "trials/min", rates[1], rates[2] / rates[1], 1),
        Figure("sweep/overhead", 1000 * overhead, "ms a trial", None, None, 1),
    ]


def _timed(workers: int, trials: int, data: str) -> tuple[float, float]:
    """Return the wall time of a sweep on warm workers, and the sum of its trials' own."""
    ray.init(address="local", num_cpus=workers, include_dashboard=False, logging_level=logging.ERROR)
    try:
        with tempfile.TemporaryDirectory(prefix="vfl-bench-") as folder:
            sweep(
                _trials(range(1000, 1000 + 2 * workers), data), Path(folder) / "warm", Workers(workers), False, Silent()
            )
            asked, out = _trials(range(trials), data), Path(folder) / "timed"
            began = time.perf_counter()
            sweep(asked, out, Workers(workers), False, Silent())
            wall_s = time.perf_counter() - began
            return wall_s, float(sum(row["wall_s"] for row in results.rows(out)))
    finally:
        ray.shutdown()


def _trials(seeds: range, data: str) -> list[Trial]:
    prepared = [prepare(parse({**RUN, "seed": seed, "data": data})) for seed in seeds]
    return [Trial(key, config) for config, _, key in prepared]
