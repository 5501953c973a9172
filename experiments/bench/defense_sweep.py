"""Utility and leakage of each defense over its strength: a row a run, kept, so that a sweep goes on where it stopped.

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
from experiments.bench.defense_stacks import AIMS, Options, Stack
from experiments.bench.rows import add_row, read_rows
from experiments.plan import open_world
from experiments.progress import Silent
from experiments.run import Shared, simulate
from experiments.schema import Config
from parties.isolate import Isolation
from vfl.errors import UserError

ROWS = Path("docs/results/rows/defenses")
LABELS = "labels"
KEPT = {
    "labels": ("leak_auc", "leak_auc_pooled", "abs_q95", "sign_free", "upper", "batches"),
    "attribute": ("accuracy", "balanced_accuracy", "prior_only", "upper"),
    "features": ("nmse", "prior_only", "upper"),
}
"""Which figures of an attack a row keeps, by what the attack is after."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One run of the sweep."""

    data: str
    top: str
    seed: int
    stack: Stack
    aim: str = LABELS

    @property
    def key(self) -> str:
        """What tells it from all others."""
        return json.dumps([self.data, self.top, self.seed, list(self.stack), self.aim], sort_keys=True)

    @property
    def config(self) -> Config:
        """Its configuration."""
        aim = AIMS[self.aim]
        asked = aim.sets[self.data]
        return Config.model_validate(
            {
                **asked,
                "seed": self.seed,
                "backend": "local",
                "model": {**aim.model, "top": aim.tops[self.top]},
                "train": {**asked["train"], "checkpoint_every": 0, "epoch_guard": "off"},
                "references": [],
                "record": {"keep": "marks"},
                "attack": list(aim.attacks[self.data]),
                "threat": aim.threat,
                "defense": list(self.stack),
            }
        )

    def file(self, rows: Path) -> Path:
        """Return the file that its row is written to."""
        return rows / (f"{self.data}.jsonl" if self.aim == LABELS else f"{self.data}_{self.aim}.jsonl")


def cells(aims: Sequence[str] = tuple(AIMS), data: Sequence[str] | None = None) -> Iterator[Cell]:
    """Yield every run of the sweep in the order of their making."""
    for aim in aims:
        for cell in AIMS[aim].cells():
            if data is None or cell[0] in data:
                yield Cell(*cell, aim)


def known(rows: Path) -> dict[str, Mapping[str, Any]]:
    """Return the rows there are, by the key of their cell."""
    found = ((row, row.get("aim", LABELS)) for row in read_rows(rows))
    return {Cell(row["data"], row["top"], row["seed"], tuple(row["defense"]), aim).key: row for row, aim in found}


def sweep(rows: Path, asked: Sequence[Cell], seconds: float) -> None:
    """Make the runs that have no row yet until `seconds` are over; a row is one line."""
    began = time.monotonic()
    with Isolation() as isolation, tempfile.TemporaryDirectory(prefix="vfl-sweep-") as folder:
        shared = Shared(isolation, Path(folder) / "references", Path(folder) / "alignments")
        found = known(rows)
        for place, cell in enumerate(asked):
            found = found if cell.key in found else known(rows)  # another process may make runs of this sweep too
            if cell.key in found:
                continue
            if time.monotonic() - began > seconds:
                return
            try:
                row = _run(cell, Path(folder) / str(place), shared)
            except UserError as error:
                sys.stderr.write(f"not run: {cell.key}: {error}\n")
                continue
            add_row(cell.file(rows), row)
            sys.stderr.write(f"{row['total_s']:.1f} s: {cell.key}\n")


def _run(cell: Cell, out: Path, shared: Shared) -> Options:
    row = simulate(cell.config, out, ray_address=None, resume=None, progress=Silent(), shared=shared)
    owner = "advertiser" if cell.aim == LABELS else "publisher"
    lines = [line["epsilon"] for line in ledger(cell.config, open_world(cell.config)) if line["party"] == owner]
    return {
        **({} if cell.aim == LABELS else {"aim": cell.aim}),
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
    target, chance = figures["target"], figures["chance"] or {}
    found = {name: _short(figures[name]) for name in KEPT[target]}
    if target == LABELS:
        return {**found, "chance": {name: _short(chance[name]) for name in ("sign_free", "abs_q95")}}
    return {**found, "controls": {name: _short(value) for name, value in figures.get("controls", {}).items()}}


def _short(value: float | None) -> float | None:
    return None if value is None else round(value, 5)


def main() -> None:
    """Go on with a sweep."""
    parser = argparse.ArgumentParser(prog="python -m experiments.bench.defense_sweep", description=__doc__)
    parser.add_argument("--rows", type=Path, default=ROWS)
    parser.add_argument("--aim", choices=sorted(AIMS), action="append", help="default: all")
    parser.add_argument("--data", choices=sorted({name for aim in AIMS.values() for name in aim.sets}), action="append")
    parser.add_argument("--seconds", type=float, default=600.0)
    options = parser.parse_args()
    sweep(options.rows, list(cells(options.aim or tuple(AIMS), options.data)), options.seconds)


if __name__ == "__main__":
    main()
