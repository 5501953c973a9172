"""Vertical logistic regression with a noised residue: what accuracy is left, and what the residues still tell.

`python -m experiments.bench.residue` makes the runs that have no row yet and prints the tables.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.progress import Silent
from experiments.run import Shared, simulate
from experiments.schema import Config
from parties.isolate import Isolation

Options = dict[str, Any]
ROWS = Path("docs/results/rows/residue.jsonl")
SEEDS = 10
EPSILONS = (0.01, 0.1, 1.0, 10.0)
SETS: dict[str, Options] = {
    "breast_cancer": {"classes": 2, "batch_size": 32, "epochs": 20, "lr": 0.05},
    "digits": {"classes": 10, "batch_size": 32, "epochs": 20, "lr": 0.02},
}
STACKS: tuple[tuple[Options, ...], ...] = (
    (),
    *(({"name": "grad_perturb", "epsilon": epsilon},) for epsilon in EPSILONS),
    *(({"name": "tpsl", "epsilon": epsilon},) for epsilon in EPSILONS),
    *(({"name": "laplace_noise", "ratio": ratio},) for ratio in (1.0, 4.0)),
    ({"name": "max_norm"},),
)
"""`grad_perturb` is additive Laplace noise on the residue; `max_norm` multiplies it by a random factor."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One run: linear bottoms of as many outputs as there are logits, added up; a fifth of the rows is the test."""

    data: str
    seed: int
    stack: tuple[Options, ...]

    @property
    def key(self) -> str:
        """What tells it from all others."""
        return json.dumps([self.data, self.seed, list(self.stack)], sort_keys=True)

    @property
    def config(self) -> Config:
        """Its configuration."""
        asked = SETS[self.data]
        width = 1 if asked["classes"] == 2 else asked["classes"]
        return Config.model_validate(
            {
                "seed": self.seed,
                "backend": "local",
                "data": self.data,
                "holdout": {"test": 0.2, "valid": 0.0},
                "model": {"bottom": "linear", "top": "sum", "embedding_dim": width},
                "train": {
                    **{key: asked[key] for key in ("epochs", "batch_size", "lr")},
                    "optimizer": "sgd",
                    "checkpoint_every": 0,
                },
                "defense": list(self.stack),
                "attack": [{"name": "residue"}, {"name": "direct_label_inference"}],
                "references": ["advertiser_alone"],
                "record": {"keep": "marks"},
            }
        )


def cells() -> Iterator[Cell]:
    """Yield every run, a seed of everything before the next."""
    for seed in range(SEEDS):
        for data in SETS:
            for stack in STACKS:
                yield Cell(data, seed, stack)


def known(rows: Path) -> dict[str, Mapping[str, Any]]:
    """Return the rows there are, by the key of their cell."""
    lines = rows.read_text(encoding="utf-8").splitlines() if rows.exists() else []
    found = [json.loads(line) for line in lines]
    return {Cell(row["data"], row["seed"], tuple(row["defense"])).key: row for row in found}


def make(rows: Path, seconds: float) -> None:
    """Make the runs that have no row yet until `seconds` are over."""
    began = time.monotonic()
    with Isolation() as isolation, tempfile.TemporaryDirectory(prefix="vfl-residue-") as folder:
        shared = Shared(isolation, Path(folder) / "references")
        for place, cell in enumerate(cells()):
            if cell.key in known(rows):
                continue
            if time.monotonic() - began > seconds:
                return
            row = _run(cell, Path(folder) / str(place), shared)
            with rows.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            sys.stderr.write(f"{cell.key}\n")


def table(rows: Path) -> Iterator[str]:
    """Yield a Markdown table a data set: mean and standard deviation over seeds."""
    found = list(known(rows).values())
    for data in SETS:
        yield f"**{data}**"
        yield ""
        yield "| defense | test accuracy | residue attack, sign-free | sign of the gradient, sign-free | seeds |"
        yield "| --- | ---: | ---: | ---: | ---: |"
        for stack in STACKS:
            group = [row for row in found if row["data"] == data and tuple(row["defense"]) == stack]
            if group:
                cut = [_spread([row[key] for row in group]) for key in ("accuracy", "residue", "direct")]
                yield f"| {_name(stack)} | {' | '.join(cut)} | {len(group)} |"
        alone = [row["alone"] for row in found if row["data"] == data and not row["defense"]]
        if alone:
            yield f"| the advertiser alone | {_spread(alone)} | | | {len(alone)} |"
        yield ""


def _run(cell: Cell, out: Path, shared: Shared) -> Options:
    row = simulate(cell.config, out, ray_address=None, resume=None, progress=Silent(), shared=shared)
    leakage = row["leakage"]
    return {
        "data": cell.data,
        "seed": cell.seed,
        "defense": list(cell.stack),
        "digest": row["digest"],
        "accuracy": row["utility"]["test"]["accuracy"],
        "alone": row["utility"]["advertiser_alone"]["accuracy"],
        "residue": _recovered(leakage["residue"]),
        "direct": _recovered(leakage["direct_label_inference"]),
    }


def _recovered(figures: Mapping[str, Any]) -> float:
    """Return the sign-free leak AUC for two classes, the accuracy of recovery for more."""
    return figures["sign_free"] if "sign_free" in figures else figures["accuracy"]


def _name(stack: Sequence[Options]) -> str:
    told = [" ".join([each["name"], *(f"{k}={v:g}" for k, v in each.items() if k != "name")]) for each in stack]
    return " + ".join(told) or "none"


def _spread(values: Sequence[float]) -> str:
    deviation = f" ± {100 * statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{100 * statistics.mean(values):.2f}{deviation}"


def main() -> None:
    """Go on with the runs and print their tables."""
    parser = argparse.ArgumentParser(prog="python -m experiments.bench.residue", description=__doc__)
    parser.add_argument("--rows", type=Path, default=ROWS)
    parser.add_argument("--seconds", type=float, default=600.0)
    options = parser.parse_args()
    make(options.rows, options.seconds)
    sys.stdout.write("\n".join(table(options.rows)) + "\n")


if __name__ == "__main__":
    main()
