"""How long stored rows take to be loaded, and to become a report, in a process of their own with its start."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from experiments import results
from experiments.bench.figures import Figure
from experiments.config import parse, resolved
from experiments.progress import Silent
from experiments.run import simulate
from vfl.seeds import Seeds

ALLOWED_S = 10.0
SEEDS = 20
ATTACKS = ("norm", "direction", "spectral")
RUN: dict[str, Any] = {
    "data": "breast_cancer",
    "backend": "local",
    "train": {"epochs": 1, "batch_size": 64},
    "attack": list(ATTACKS),
    "threat": {"hints": {"labelled_rows": 1, "prior": True}},
    "references": ["advertiser_alone"],
}
LOAD = "import sys; from experiments.results import load; assert len(load(sys.argv[1])) == int(sys.argv[2])"


def measure(rows: int) -> list[Figure]:
    """Return the seconds of `results.load` and of `vfl report` on so many rows, beside what each is allowed."""
    with tempfile.TemporaryDirectory(prefix="vfl-bench-") as folder:
        out = Path(folder) / "sweep"
        _write(out, rows, Path(folder) / "run")
        commands = {
            "load": [sys.executable, "-c", LOAD, str(out), str(rows)],
            "report": [sys.executable, "-m", "experiments.cli", "report", str(out)],
        }
        taken = {name: _seconds(command) for name, command in commands.items()}
    return [Figure(f"{name}/{rows}", taken[name], "s", ALLOWED_S, ALLOWED_S / taken[name], 1) for name in taken]


def _seconds(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def _write(out: Path, count: int, folder: Path) -> None:
    """Write the row of one real run under many defenses, strengths and seeds, its figures moved at random."""
    run = simulate(parse(RUN), folder, ray_address=None, resume=None, progress=Silent())
    draws = Seeds(0).numpy("figures")
    for number in range(count):
        place, seed = divmod(number, SEEDS)
        name, strength = ("marvell", "s") if place % 2 else ("gaussian_noise", "ratio")
        defense = [] if place == 0 else [{"name": name, strength: float(place)}]
        config = resolved(parse({**RUN, "seed": seed, "defense": defense}))
        results.write(out, results.row_of(f"{number:06d}", config, _moved(run, draws)))


def _moved(run: Mapping[str, Any], draws: np.random.Generator) -> dict[str, Any]:
    test = {**run["utility"]["test"], "auc": 0.9 + 0.01 * float(draws.normal())}
    leakage = {key: {**run["leakage"][key], "leak_auc": float(draws.uniform(0.5, 1.0))} for key in ATTACKS}
    return {**run, "utility": {**run["utility"], "test": test}, "leakage": leakage}
