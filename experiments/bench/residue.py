"""Vertical logistic regression with a noised residue: what accuracy is left, and what the residues still tell.

`python -m experiments.bench.residue` makes the runs that have no row yet and prints the tables; `--write
docs/results/residue.md` puts them between that page's two marks.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.bench.rows import add_row, put, read_rows, stack_name
from experiments.progress import Silent
from experiments.run import Shared, simulate
from experiments.schema import Config
from parties.isolate import Isolation
from vfl.data import Source
from vfl.registry import build

Options = dict[str, Any]
ROWS = Path("docs/results/rows/residue.jsonl")
ATTACKED_SEEDS = 2
EPSILONS = (0.01, 0.1, 1.0, 10.0)
ADDITIVE: tuple[tuple[Options, ...], ...] = (
    (),
    *(({"name": "grad_perturb", "epsilon": epsilon},) for epsilon in EPSILONS),
)
"""Laplace noise of scale 1/epsilon on each residue, drawn anew at each step."""

MULTIPLIED: tuple[tuple[Options, ...], ...] = tuple(
    ({"name": "multiplicative_noise", "scale": 1 / epsilon},) for epsilon in EPSILONS
)
"""Each residue times a Laplace factor of mean 1: our reading of the multiplicative noise, whose formula we lack."""

OTHERS: tuple[tuple[Options, ...], ...] = (
    *(({"name": "tpsl", "epsilon": epsilon, "draw": "once"},) for epsilon in (1.0, 10.0)),
    *(({"name": "gaussian_noise", "ratio": ratio},) for ratio in (1.0, 4.0)),
    ({"name": "max_norm"},),
)
"""Noise on the label drawn once, noise in proportion to the batch, and a random factor on each residue."""


@dataclass(frozen=True, slots=True)
class Regime:
    """How the regression is trained: plain gradient descent, and which stacks it is run with for how many seeds.

    `whole` gives every column to the publisher, so that no weight is learned from a residue without noise.
    """

    data: str
    batch_size: int
    epochs: int
    lr: float
    stacks: tuple[tuple[Options, ...], ...]
    every: int = 1
    seeds: int = 10
    whole: bool = False


BATCHES, ALL_ROWS, WHOLE = "batches of 16", "500 steps on all rows", "all columns at the publisher"
REGIMES = {
    f"breast_cancer, {BATCHES}": Regime("breast_cancer", 16, 10, 0.05, (*ADDITIVE, *OTHERS)),
    f"breast_cancer, {ALL_ROWS}": Regime("breast_cancer", 512, 500, 0.01, ADDITIVE, every=50),
    f"breast_cancer, {WHOLE}, {BATCHES}": Regime("breast_cancer", 16, 10, 0.05, (*ADDITIVE, *MULTIPLIED), whole=True),
    f"breast_cancer, {WHOLE}, {ALL_ROWS}": Regime(
        "breast_cancer", 512, 500, 0.01, (*ADDITIVE, *MULTIPLIED), every=50, whole=True
    ),
    f"digits_parity, {BATCHES}": Regime("digits_parity", 16, 10, 0.05, ADDITIVE),
    f"digits_parity, {WHOLE}, {BATCHES}": Regime("digits_parity", 16, 10, 0.05, ADDITIVE, whole=True),
    f"digits_parity, {WHOLE}, {ALL_ROWS}": Regime("digits_parity", 2048, 500, 0.01, ADDITIVE, every=50, whole=True),
}

PUBLISHED = {
    "breast_cancer": {
        "additive": (114, ADDITIVE, (97.37, 83.33, 87.72, 92.10, 94.74)),
        "multiplicative": (114, MULTIPLIED, (87.72, 89.47, 92.98, 95.61)),
    },
    "digits_parity": {"additive": (360, ADDITIVE, (91.11, 63.33, 77.50, 89.17, 90.83))},
}
"""The paper's test accuracies by task and noise: over how many test rows, of which stacks, in percent."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One run: linear bottoms of as many outputs as there are logits, added up; a fifth of the rows is the test."""

    regime: str
    seed: int
    stack: tuple[Options, ...]

    @property
    def key(self) -> str:
        """What tells it from all others."""
        return json.dumps([self.regime, self.seed, list(self.stack)], sort_keys=True)

    @property
    def attacked(self) -> bool:
        """Whether the residue attack is run too: it takes longer than all the rest, and says the same of every seed."""
        return self.seed < ATTACKED_SEEDS

    @property
    def config(self) -> Config:
        """Its configuration."""
        asked = REGIMES[self.regime]
        train = {"epochs": asked.epochs, "batch_size": asked.batch_size, "lr": asked.lr, "optimizer": "sgd"}
        return Config.model_validate(
            {
                "seed": self.seed,
                "backend": "local",
                "data": asked.data,
                "holdout": {"test": 0.2, "valid": 0.0},
                "model": {"bottom": "linear", "top": "sum", "embedding_dim": 1},
                **({"split": _whole(asked.data)} if asked.whole else {}),
                "train": {**train, "checkpoint_every": 0},
                "defense": list(self.stack),
                "attack": [{"name": "residue"}] if self.attacked else [],
                "references": [] if self.stack else ["advertiser_alone"],
                "record": {"keep": "marks", "every": asked.every},
            }
        )


def cells() -> Iterator[Cell]:
    """Yield every run, regime by regime, a seed of everything before the next."""
    for name, regime in REGIMES.items():
        for seed in range(regime.seeds):
            for stack in regime.stacks:
                yield Cell(name, seed, stack)


def known(rows: Path) -> dict[str, Mapping[str, Any]]:
    """Return the rows there are, by the key of their cell."""
    return {Cell(row["regime"], row["seed"], tuple(row["defense"])).key: row for row in read_rows(rows)}


def make(rows: Path, seconds: float) -> None:
    """Make the runs that have no row yet until `seconds` are over."""
    began = time.monotonic()
    with Isolation() as isolation, tempfile.TemporaryDirectory(prefix="vfl-residue-") as folder:
        shared = Shared(isolation, Path(folder) / "references", Path(folder) / "alignments")
        for place, cell in enumerate(cells()):
            if cell.key in known(rows):
                continue
            if time.monotonic() - began > seconds:
                return
            add_row(rows, _run(cell, Path(folder) / str(place), shared))
            sys.stderr.write(f"{cell.key}\n")


def table(rows: Path) -> Iterator[str]:
    """Yield a Markdown table a regime: mean and standard deviation over seeds, in percent."""
    found = list(known(rows).values())
    for name, regime in REGIMES.items():
        yield f"**{name}**"
        yield ""
        yield "| defense | test accuracy | labels named right by the residue attack | seeds |"
        yield "| --- | ---: | ---: | ---: |"
        ours = [row for row in found if row["regime"] == name]
        for stack in regime.stacks:
            group = [row for row in ours if tuple(row["defense"]) == stack]
            if group:
                named = [row["residue"] for row in group if row["residue"] is not None]
                figures = f"{_spread([row['accuracy'] for row in group])} | {_spread(named) if named else ''}"
                yield f"| {stack_name(stack)} | {figures} | {len(group)} |"
        alone = [row["alone"] for row in ours if not row["defense"]]
        if alone:
            yield f"| the advertiser alone | {_spread(alone)} | | {len(alone)} |"
        yield ""


def compared(rows: Path) -> Iterator[str]:
    """Yield a Markdown table for each of the paper's rows beside what each regime has of the same task and noise.

    Each figure of ours is followed by how many of the standard deviations of one run lie between it and the paper's:
    ours over seeds, and the paper's own by its test rows, taken to be one run.
    """
    found = list(known(rows).values())
    for data, noises in PUBLISHED.items():
        regimes = {name: regime for name, regime in REGIMES.items() if regime.data == data}
        for noise, (tested, stacks, figures) in noises.items():
            ours = {
                name: regime
                for name, regime in regimes.items()
                if set(map(str, stacks)) <= set(map(str, regime.stacks))
            }
            yield f"**{data}, {noise}: the paper and ours**"
            yield ""
            yield f"| | the paper | {' | '.join(name.removeprefix(f'{data}, ') for name in ours)} |"
            yield f"| --- | ---: |{' ---: |' * len(ours)}"
            for stack, figure in zip(stacks, figures, strict=True):
                cells = [_beside(found, name, stack, figure, tested) for name in ours]
                yield f"| {stack_name(stack)} | {figure:.2f} | {' | '.join(cells)} |"
            yield ""


def _beside(
    found: Sequence[Mapping[str, Any]], name: str, stack: tuple[Options, ...], figure: float, tested: int
) -> str:
    values = [row["accuracy"] for row in found if row["regime"] == name and tuple(row["defense"]) == stack]
    if len(values) < 2:
        return "not run"
    share = figure / 100
    apart = (statistics.mean(values) - share) / math.hypot(
        statistics.stdev(values), math.sqrt(share * (1 - share) / tested)
    )
    return f"{_spread(values)} ({apart:+.1f})"


def _whole(data: str) -> Options:
    source: Source = build("data", data)
    return {"name": "columns", "publisher": list(source.describe(None).columns), "advertiser": []}


def _run(cell: Cell, out: Path, shared: Shared) -> Options:
    row = simulate(cell.config, out, ray_address=None, resume=None, progress=Silent(), shared=shared)
    return {
        "regime": cell.regime,
        "seed": cell.seed,
        "defense": list(cell.stack),
        "digest": row["digest"],
        "accuracy": row["utility"]["test"]["accuracy"],
        "alone": None if cell.stack else row["utility"]["advertiser_alone"]["accuracy"],
        "residue": row["leakage"]["residue"]["accuracy"] if cell.attacked else None,
    }


def _spread(values: Sequence[float]) -> str:
    deviation = f" ± {100 * statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{100 * statistics.mean(values):.2f}{deviation}"


def main() -> None:
    """Go on with the runs and print their tables."""
    parser = argparse.ArgumentParser(prog="python -m experiments.bench.residue", description=__doc__)
    parser.add_argument("--rows", type=Path, default=ROWS)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--write", type=Path, help="put the tables into this page")
    options = parser.parse_args()
    make(options.rows, options.seconds)
    lines = [*table(options.rows), *compared(options.rows)]
    if options.write:
        put(options.write, lines)
    else:
        sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
