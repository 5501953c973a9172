"""Utility and leakage of each defense over its strength: one row a run, kept, so that a stopped sweep goes on.

`python -m experiments.bench.defense_sweep` prints the table of all rows that are there.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.account import ledger
from experiments.plan import open_world
from experiments.progress import on_stderr
from experiments.run import simulate
from experiments.schema import Config

Options = dict[str, Any]
STRENGTHS: tuple[tuple[Options, ...], ...] = (
    (),
    ({"name": "max_norm"},),
    ({"name": "mixpro"},),
    *(({"name": "marvell", "s": s},) for s in (1.0, 4.0, 16.0)),
    *(({"name": "gaussian_noise", "ratio": ratio},) for ratio in (1.0, 4.0)),
    *(({"name": "randomized_response", "epsilon": epsilon},) for epsilon in (1.0, 3.0)),
    *(({"name": "tpsl", "epsilon": epsilon},) for epsilon in (1.0, 3.0)),
    ({"name": "clipped_gaussian", "on": "gradient", "clip_l2": 0.1, "noise_multiplier": 2.0},),
    ({"name": "grad_compression", "keep": 0.1},),
    ({"name": "discrete_grad"},),
    ({"name": "kdk"},),
    ({"name": "cae"},),
    ({"name": "mid", "at": "top", "weight": 0.01},),
    ({"name": "grad_average"},),
)


def configuration(stack: Sequence[Options], seed: int, data: str) -> Config:
    """Return one run of the sweep: one epoch, linear top, norm and direction attacks by the publisher."""
    return Config.model_validate(
        {
            "seed": seed,
            "backend": "local",
            "data": data,
            "train": {"epochs": 1, "batch_size": 512, "checkpoint_every": 0},
            "references": [],
            "record": {"keep": "marks"},
            "defense": list(stack),
        }
    )


def sweep(rows: Path, data: str, seeds: int, seconds: float) -> None:
    """Make the runs that have no row yet, seed by seed, until `seconds` are over."""
    rows.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    for seed in range(seeds):
        for stack in STRENGTHS:
            path = rows / f"{_key(stack, seed, data)}.json"
            if path.exists():
                continue
            if time.monotonic() - began > seconds:
                return
            path.write_text(json.dumps(_run(stack, seed, data), indent=1) + "\n", encoding="utf-8")
            sys.stderr.write(f"{path.name}: {_name(stack)}, seed {seed}\n")


def table(rows: Path) -> Iterator[str]:
    """Yield the lines of a Markdown table: mean over seeds, with the least and the greatest."""
    found: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for path in sorted(rows.glob("*.json")):
        row = json.loads(path.read_text(encoding="utf-8"))
        found.setdefault((row["data"], _name(row["defense"])), []).append(row)
    yield "| data | defense | test AUC | greatest sign-free leak AUC | by chance | label epsilon | seeds |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    order = [_name(stack) for stack in STRENGTHS]
    for (data, name), group in sorted(found.items(), key=lambda pair: (pair[0][0], order.index(pair[0][1]))):
        utility, leak = ([row[key] for row in group] for key in ("auc", "leak"))
        epsilon = "none" if group[0]["epsilon"] is None else f"{group[0]['epsilon']:.3g}"
        chance = f"{statistics.mean(row['chance'] for row in group):.3f}"
        yield f"| {data} | {name} | {_spread(utility)} | {_spread(leak)} | {chance} | {epsilon} | {len(group)} |"


def _run(stack: Sequence[Options], seed: int, data: str) -> Options:
    config = configuration(stack, seed, data)
    with tempfile.TemporaryDirectory(prefix="vfl-sweep-") as folder, on_stderr() as progress:
        row = simulate(config, Path(folder) / "run", ray_address=None, resume=None, progress=progress)
    lines = [line["epsilon"] for line in ledger(config, open_world(config)) if line["party"] == "advertiser"]
    return {
        "data": data,
        "seed": seed,
        "defense": list(stack),
        "digest": row["digest"],
        "auc": row["utility"]["test"]["auc"],
        "log_loss": row["utility"]["test"]["log_loss"],
        "leakage": row["leakage"],
        "leak": max(figures["sign_free"] for figures in row["leakage"].values()),
        "chance": max(figures["chance"]["sign_free"] for figures in row["leakage"].values()),
        "epsilon": max(lines, default=None),
    }


def _key(stack: Sequence[Options], seed: int, data: str) -> str:
    return hashlib.sha256(json.dumps([list(stack), seed, data], sort_keys=True).encode()).hexdigest()[:16]


def _name(stack: Sequence[Options]) -> str:
    told = [" ".join([each["name"], *(f"{k}={v}" for k, v in each.items() if k != "name")]) for each in stack]
    return " + ".join(told) or "none"


def _spread(values: Sequence[float]) -> str:
    mean = f"{statistics.mean(values):.3f}"
    return mean if len(values) < 2 else f"{mean} [{min(values):.3f}, {max(values):.3f}]"


def main() -> None:
    """Go on with a sweep and print its table."""
    parser = argparse.ArgumentParser(prog="python -m experiments.bench.defense_sweep", description=__doc__)
    parser.add_argument("--rows", type=Path, default=Path("docs/results/rows/defenses"))
    parser.add_argument("--data", default="adult")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=600.0)
    options = parser.parse_args()
    sweep(options.rows, options.data, options.seeds, options.seconds)
    sys.stdout.write("\n".join(table(options.rows)) + "\n")


if __name__ == "__main__":
    main()
