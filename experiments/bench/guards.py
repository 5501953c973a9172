"""What guards flag where a publisher spoils some of what it sends: a row a run, and a table from the rows alone.

`python -m experiments.bench.guards` makes the runs that have no row yet and prints the table.
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

from experiments.bench.defense_stacks import SEEDS, SETS, Options
from experiments.bench.rows import add_row, read_rows
from experiments.plan import party_folder
from experiments.progress import Silent
from experiments.run import Shared, simulate
from experiments.schema import ADVERTISER, Config
from parties.gate import FLAGS_FILE
from parties.isolate import Isolation
from vfl import checkpoint
from vfl.attacks._tampering import spread as spoiled

ROWS = Path("docs/results/rows/guards.jsonl")
SHARE = 0.05
GUARDS = ("norm_check", "consistency")
WAYS: tuple[Options, ...] = (
    {"way": "noise", "noise_std": 1.0},
    {"way": "noise", "noise_std": 10.0},
    {"way": "missing"},
    {"way": "misaligned"},
    {"way": "free_riding"},
)
"""How a publisher spoils the embeddings of a share of rows, from the first batch to the last."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One run with both guards of an advertiser at a linear top; they report and change nothing."""

    data: str
    seed: int
    way: Mapping[str, Any]

    @property
    def key(self) -> str:
        """What tells it from all others."""
        return json.dumps([self.data, self.seed, self.way], sort_keys=True)

    @property
    def config(self) -> Config:
        """Its configuration."""
        asked = SETS[self.data]
        return Config.model_validate(
            {
                **asked,
                "seed": self.seed,
                "backend": "local",
                "model": {"top": "linear"},
                "train": {**asked["train"], "checkpoint_every": 0, "epoch_guard": "off"},
                "references": [],
                "record": {"keep": "marks"},
                "attack": [{"name": "sabotage", "share": SHARE, **self.way}],
                "defense": [{"name": name} for name in GUARDS],
            }
        )


def cells() -> Iterator[Cell]:
    """Yield every run, a seed of everything before the next."""
    for seed in range(SEEDS):
        for data in SETS:
            for way in WAYS:
                yield Cell(data, seed, way)


def known(rows: Path) -> dict[str, Mapping[str, Any]]:
    """Return the rows there are, by the key of their cell."""
    return {Cell(row["data"], row["seed"], row["way"]).key: row for row in read_rows(rows)}


def make(rows: Path, seconds: float) -> None:
    """Make the runs that have no row yet until `seconds` are over."""
    began = time.monotonic()
    with Isolation() as isolation, tempfile.TemporaryDirectory(prefix="vfl-guards-") as folder:
        shared = Shared(isolation, Path(folder) / "references", Path(folder) / "alignments")
        for place, cell in enumerate(cells()):
            if cell.key in known(rows):
                continue
            if time.monotonic() - began > seconds:
                return
            add_row(rows, _run(cell, Path(folder) / str(place), shared))
            sys.stderr.write(f"{cell.key}\n")


def _run(cell: Cell, out: Path, shared: Shared) -> Options:
    row = simulate(cell.config, out, ray_address=None, resume=None, progress=Silent(), shared=shared)
    flags, _ = checkpoint.load(party_folder(out, ADVERTISER) / FLAGS_FILE)
    seen = {line["defense"]: line["rows"] for line in row["integrity"]}
    found: Options = {}
    for place, name in enumerate(GUARDS):
        handles = [value[:, 1] for key, value in flags.items() if key.startswith(f"{place}.")]
        hit = [bool(each) for rows in handles for each in spoiled(rows, SHARE).tolist()]
        found[name] = {"rows": seen[name], "spoiled": sum(hit), "others": len(hit) - sum(hit)}
    damage = row["leakage"]["sabotage"]["damage"]
    return {"data": cell.data, "seed": cell.seed, "way": dict(cell.way), "guards": found, "damage": damage}


def table(rows: Path) -> Iterator[str]:
    """Yield a Markdown table: which share of spoiled and of other rows each guard flags, over all rounds of a run."""
    yield "| data | how 5 % of rows are spoiled | damage | guard | spoiled rows flagged | other rows flagged | seeds |"
    yield "| --- | --- | ---: | --- | ---: | ---: | ---: |"
    found = list(known(rows).values())
    for data in SETS:
        for way in WAYS:
            group = [row for row in found if row["data"] == data and row["way"] == way]
            for name in GUARDS if group else ():
                told = " ".join([way["way"], *(f"{key}={value}" for key, value in way.items() if key != "way")])
                caught = [_share(row["guards"][name], "spoiled", SHARE) for row in group]
                alarms = [_share(row["guards"][name], "others", 1 - SHARE) for row in group]
                damage = statistics.mean(row["damage"] for row in group)
                figures = f"{_spread(caught)} | {_spread(alarms)}"
                yield f"| {data} | {told} | {damage:+.3f} | {name} | {figures} | {len(group)} |"
    yield ""


def _share(counts: Mapping[str, int], which: str, share: float) -> float:
    return counts[which] / (share * counts["rows"])


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.mean(values):.4f} [{min(values):.4f}, {max(values):.4f}]"


def main() -> None:
    """Go on with the runs and print their table."""
    parser = argparse.ArgumentParser(prog="python -m experiments.bench.guards", description=__doc__)
    parser.add_argument("--rows", type=Path, default=ROWS)
    parser.add_argument("--seconds", type=float, default=600.0)
    options = parser.parse_args()
    make(options.rows, options.seconds)
    sys.stdout.write("\n".join(table(options.rows)) + "\n")


if __name__ == "__main__":
    main()
