"""Utility and leakage of each defense over its strength, at both kinds of top: a row a run, kept, so a sweep goes on.

`python -m experiments.bench.defense_sweep --seconds 600` makes runs that have no row yet, most telling ones first, and
stops; `experiments.bench.defense_report` makes the tables from the rows alone.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.account import ledger
from experiments.bench.rows import add_row, read_rows
from experiments.plan import open_world
from experiments.progress import Silent
from experiments.run import Shared, simulate
from experiments.schema import Config
from parties.isolate import Isolation
from vfl.errors import UserError

Options = dict[str, Any]
ROWS = Path("docs/results/rows/defenses")
SEEDS = 3
TOPS: dict[str, Options] = {"linear": {"name": "linear"}, "hidden": {"name": "mlp", "hidden": [64]}}
SETS: dict[str, Options] = {
    "synthetic_ads": {
        "data": {"name": "synthetic_ads", "rows": 60_000, "cvr": 0.006},
        "train": {"epochs": 2, "batch_size": 1024, "lr": 3e-3},
    },
    "criteo": {"data": "criteo", "train": {"epochs": 2, "batch_size": 256, "lr": 1e-3}},
}
"""What is trained, by data set; nothing of it was chosen by a test row."""

LABELLED_ROWS = 10
ATTACKS: tuple[Options, ...] = (
    {"name": "norm"},
    {"name": "direction", "hints": 1},
    {"name": "hint_norm", "hints": LABELLED_ROWS},
    {"name": "likelihood_ratio", "hints": LABELLED_ROWS},
)
KEPT = ("leak_auc", "leak_auc_pooled", "abs_q95", "sign_free", "upper", "batches")


def _over(name: str, option: str, *values: float, **fixed: Any) -> list[Options]:  # noqa: ANN401 - options of any kind
    return [{"name": name, option: value, **fixed} for value in values]


WATCHED: tuple[Options, ...] = (
    {"name": "norm_check"},
    {"name": "norm_check", "on": "gradient"},
    {"name": "consistency"},
    {"name": "grad_scrutiny"},
)
"""Guards on an honest run: what they flag there are false alarms."""

TIERS: tuple[tuple[tuple[Options, ...], ...], ...] = (
    (
        (),
        ({"name": "mixpro"},),
        *((each,) for each in _over("marvell", "s", 1.0, 4.0, 16.0)),
        ({"name": "max_norm"},),
        *((each,) for each in _over("gaussian_noise", "ratio", 1.0, 4.0)),
        *((each,) for each in _over("randomized_response", "epsilon", 1.0, 3.0)),
        *((each,) for each in _over("tpsl", "epsilon", 1.0, 3.0, draw="once")),
        ({"name": "grad_average"},),
    ),
    (
        WATCHED,
        ({"name": "mixpro", "mean": "mixed"},),
        ({"name": "mixpro", "small": "half"},),
        ({"name": "mixpro", "goal_degrees": 60.0},),
        ({"name": "marvell", "s": 0.25},),
        ({"name": "marvell", "sum_kl": 0.16},),
        ({"name": "gaussian_noise", "ratio": 0.25},),
        *((each,) for each in _over("grad_perturb", "epsilon", 1.0, 10.0)),
        *((each,) for each in _over("clipped_gaussian", "noise_multiplier", 0.5, 2.0, on="gradient", clip_l2=0.1)),
        *((each,) for each in _over("mid", "weight", 1e-3, 1e-1, at="top")),
        ({"name": "cae"},),
        ({"name": "kdk"},),
    ),
    (
        *((each,) for each in _over("laplace_noise", "ratio", 1.0, 4.0)),
        ({"name": "clipped_laplace", "epsilon": 1.0, "on": "gradient", "clip_l1": 0.1},),
        ({"name": "grad_clip", "clip_l2": 0.01},),
        *((each,) for each in _over("grad_compression", "keep", 0.5, 0.1)),
        *((each,) for each in _over("discrete_grad", "bins", 12, 2)),
        ({"name": "ppdl"},),
        ({"name": "lp_2st", "epsilon": 3.0},),
        ({"name": "rr_with_prior", "epsilon": 3.0},),
        ({"name": "dcae"},),
        *((each,) for each in _over("dcor", "weight", 0.1, 1.0, protects="labels")),
        *((each,) for each in _over("pe_loss", "weight", 0.01, 0.1)),
        ({"name": "fedpass", "at": "top"},),
        ({"name": "marvell", "s": 4.0}, {"name": "max_norm"}),
    ),
)
"""Stacks of defenses, the most telling first: a tier is run at all seeds, tops and sets before the next."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One run of the sweep."""

    data: str
    top: str
    seed: int
    stack: tuple[Options, ...]

    @property
    def key(self) -> str:
        """What tells it from all others."""
        return json.dumps([self.data, self.top, self.seed, list(self.stack)], sort_keys=True)

    @property
    def config(self) -> Config:
        """Its configuration."""
        asked = SETS[self.data]
        return Config.model_validate(
            {
                **asked,
                "seed": self.seed,
                "backend": "local",
                "model": {"top": TOPS[self.top]},
                "train": {**asked["train"], "checkpoint_every": 0, "epoch_guard": "off"},
                "references": [],
                "record": {"keep": "marks"},
                "attack": list(ATTACKS),
                "threat": {"hints": {"labelled_rows": LABELLED_ROWS}},
                "defense": list(self.stack),
            }
        )


def cells(data: Sequence[str] = tuple(SETS)) -> Iterator[Cell]:
    """Yield every run of the sweep in the order of their making."""
    for tier in TIERS:
        for seed in range(SEEDS):
            for name in data:
                for top in TOPS:
                    for stack in tier:
                        yield Cell(name, top, seed, stack)


def known(rows: Path) -> dict[str, Mapping[str, Any]]:
    """Return the rows there are, by the key of their cell."""
    return {Cell(row["data"], row["top"], row["seed"], tuple(row["defense"])).key: row for row in read_rows(rows)}


def sweep(rows: Path, data: Sequence[str], seconds: float) -> None:
    """Make the runs that have no row yet, until `seconds` are over; a row is one line of `rows/DATA.jsonl`."""
    began = time.monotonic()
    with Isolation() as isolation, tempfile.TemporaryDirectory(prefix="vfl-sweep-") as folder:
        shared = Shared(isolation, Path(folder) / "references")
        for place, cell in enumerate(cells(data)):
            if cell.key in known(rows):  # read anew: another process may make runs of this sweep too
                continue
            if time.monotonic() - began > seconds:
                return
            try:
                row = _run(cell, Path(folder) / str(place), shared)
            except UserError as error:
                sys.stderr.write(f"not run: {cell.key}: {error}\n")
                continue
            add_row(rows / f"{cell.data}.jsonl", row)
            sys.stderr.write(f"{row['total_s']:.1f} s: {cell.key}\n")


def _run(cell: Cell, out: Path, shared: Shared) -> Options:
    row = simulate(cell.config, out, ray_address=None, resume=None, progress=Silent(), shared=shared)
    lines = [line["epsilon"] for line in ledger(cell.config, open_world(cell.config)) if line["party"] == "advertiser"]
    return {
        "data": cell.data,
        "top": cell.top,
        "seed": cell.seed,
        "defense": list(cell.stack),
        "digest": row["digest"],
        "test": {name: _short(row["utility"]["test"][name]) for name in ("auc", "log_loss", "calibration_ratio")},
        "leakage": {name: _leak(figures) for name, figures in row["leakage"].items()},
        "epsilon": max(lines, default=None),
        "integrity": row["integrity"],
        "total_s": _short(row["cost"]["total_s"]),
    }


def _leak(figures: Mapping[str, Any]) -> Options:
    if "error" in figures:
        return {"error": figures["error"]}
    chance = figures["chance"] or {}
    found = {name: _short(figures[name]) for name in KEPT}
    return {**found, "chance": {name: _short(chance[name]) for name in ("sign_free", "abs_q95")}}


def _short(value: float | None) -> float | None:
    return None if value is None else round(value, 5)


def main() -> None:
    """Go on with a sweep."""
    parser = argparse.ArgumentParser(prog="python -m experiments.bench.defense_sweep", description=__doc__)
    parser.add_argument("--rows", type=Path, default=ROWS)
    parser.add_argument("--data", choices=sorted(SETS), action="append", help="default: all")
    parser.add_argument("--seconds", type=float, default=600.0)
    options = parser.parse_args()
    sweep(options.rows, options.data or tuple(SETS), options.seconds)


if __name__ == "__main__":
    main()
