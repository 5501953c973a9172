"""Train `vanilla` on each real data set whose files are there, and write what the partner's data adds.

`python -m experiments.real_sets` writes one row a run to `docs/results/rows/real_sets.jsonl` and the table to
`docs/results/real_sets.md`; `--only NAME` keeps to some sets, `--seeds N` to fewer seeds.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.bench.fitting import fit
from experiments.config import parse
from experiments.intervals import half_width, interval
from experiments.plain_readers import plain_levels
from experiments.plan import ADVERTISER, REFEREE, open_world, party_folder, party_specs
from experiments.roots import data_root
from experiments.run import digest
from experiments.schema import Train
from parties.judging import judge
from vfl.errors import DataError
from vfl.registry import build
from vfl.seeds import Seeds

ROWS = Path("docs/results/rows/real_sets.jsonl")
TABLE = Path("docs/results/real_sets.md")
BUDGETS = (2000, 6000)
"""Mini-batches that each network is trained for at most: the second where the first was seen to be too few."""

LATE = 0.9
"""Share of a budget after which a best validation says that training was not at its end."""

LOOK_EVERY = 20
"""Mini-batches between two looks at the validation rows."""

BATCH = 256
PICTURES = ("mnist", "cifar10")
PLAIN: dict[str, dict[str, Any]] = {
    "alimama": {"holdout": {"by": "official"}},
    "criteo": {},
    "criteo_attribution": {"holdout": {"by": "official"}},
    "avazu": {},
    "talkingdata": {},
    "bank_marketing": {},
    "adult": {"holdout": {"by": "official"}},
    "credit_default": {},
    "give_credit": {},
    "fate/breast": {"data": {"name": "fate", "task": "breast"}},
    "fate/default_credit": {"data": {"name": "fate", "task": "default_credit"}},
    "fate/vehicle_scale": {"data": {"name": "fate", "task": "vehicle_scale"}},
    "mnist": {},
    "cifar10": {"data": {"name": "cifar10", "rows": 5000}, "holdout": {"by": "official"}},
}
"""What is asked of each set besides the defaults."""

INTRODUCTION = f"""# What the partner's data adds, on real data

Made by `python -m experiments.real_sets` with `VFL_DATA` set; one row a run in `rows/real_sets.jsonl`. `vanilla` on
the in-process grid, default networks (one hidden layer of 64, embeddings of 32, a linear top), Adam 1e-3, batches of
{BATCH}. `joint` trains on both parties' columns, `alone` the advertiser's own network on its own columns.

**One rule for every set, and for joint and alone alike**: as many whole epochs as {BUDGETS[0]:,} mini-batches begin, a
look at the validation rows (a tenth of all rows) every {LOOK_EVERY} of them and at the end, and the weights with the
least loss there are the ones that are tested. Where joint's were found in the last tenth, with any seed, all runs of
the set are made anew with {BUDGETS[1]:,}. `chosen` says after how many mini-batches of how many joint's were found, the
median over seeds. Nothing was chosen by test rows.

The metric is AUC for two classes and accuracy for more. Means over seeds with 95 % t-intervals; `gain` is joint less
alone, paired by seed. A seed changes the rows that are held out (where the set brings no test rows, those for
validation alone), the initial weights and the order of batches. `one table` is what boosted trees or logistic
regression, as scikit-learn sets them by default, make of the same training and test rows, whichever is better on the
validation rows: of the advertiser's columns, then of both parties' in one table. Ids come to them as cross-fitted
target means. Sets of pictures have none.

The files may be samples of the published sets: `rows` says how much was there. cifar10 uses the first 5,000 training
rows, and its pictures here are lossy JPEG. An interval over so few seeds of one small test set says how the training
varies, not how another sample of users would.

| set | rows | test | seeds | metric | alone | joint | gain | chosen | one table, alone | one table, both |
|---|---|---|---|---|---|---|---|---|---|---|
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m experiments.real_sets", description=__doc__)
    parser.add_argument("--only", nargs="*", choices=list(PLAIN), default=list(PLAIN))
    parser.add_argument("--seeds", type=int, default=5)
    asked = parser.parse_args(arguments)
    kept = [row for row in _stored() if row["set"] not in asked.only]
    for name in asked.only:
        missing = _missing(name)
        if missing:
            sys.stderr.write(f"{name}: skipped: {missing}\n")
            continue
        kept += measured(name, asked.seeds)
        store(kept)
    return 0


def measured(name: str, seeds: int) -> list[dict[str, Any]]:
    """Return a set's rows, a seed each, with the budget that was enough for it, or the last."""
    rows: list[dict[str, Any]] = []
    for budget in BUDGETS:
        rows = []
        for seed in range(seeds):
            rows.append(measure(name, seed, budget))
            sys.stderr.write(f"{json.dumps(rows[-1])}\n")
        if not any(late(row) for row in rows):
            break
    return rows


def late(row: Mapping[str, Any]) -> bool:
    """Return whether a run's best validation came so late that it may not have been trained to its end."""
    return bool(row["chosen"] > LATE * row["steps"])


def store(rows: list[dict[str, Any]]) -> None:
    """Write the rows and their table, in the order of the sets."""
    order = list(PLAIN)
    rows.sort(key=lambda row: (order.index(row["set"]), row["seed"]))
    ROWS.parent.mkdir(parents=True, exist_ok=True)
    ROWS.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    TABLE.write_text(
        INTRODUCTION + "".join(f"{line}\n" for line in [*table(rows), "", verdict(rows)]), encoding="utf-8"
    )


def measure(name: str, seed: int, budget: int) -> dict[str, Any]:
    """Train one set with one seed for about `budget` mini-batches and return its row."""
    given = {"data": {"name": name}, "seed": seed, "backend": "local", "attack": [], "record": {"every": 0}}
    config = parse({**given, "references": ["advertiser_alone"], **PLAIN[name]})
    world = open_world(config)
    pools = np.bincount(world.cut.pools(), minlength=3)
    epochs = math.ceil(budget / math.ceil(int(pools[0]) / BATCH))
    train = {"epochs": epochs, "batch_size": BATCH, "select": "best_valid", "validate_every": LOOK_EVERY}
    config = config.model_copy(update={"train": Train.model_validate({**train, "epoch_guard": "off"})})
    classes = len(world.described.classes)
    with tempfile.TemporaryDirectory() as folder:
        specs = party_specs(config, world, Path(folder))
        done = fit(config, specs, Path(folder))
        players = [spec for spec in specs if spec.party != REFEREE]
        referee = str(party_folder(Path(folder), REFEREE))
        utility = judge(players, referee, config.references, Seeds(seed).scope("referee"))["utility"]
        plain = None if name in PICTURES else plain_levels(players, referee, classes)
    metric = "auc" if classes == 2 else "accuracy"
    report, valid = done.reports[ADVERTISER], done.progress.valid
    return {
        "set": name,
        "seed": seed,
        "rows": world.described.rows,
        "aligned": int(sum(report[pool] for pool in ("train", "valid", "test"))),
        "test": "official" if config.holdout.by == "official" else f"{config.holdout.test:g}",
        "epochs": epochs,
        "metric": metric,
        "alone": utility["advertiser_alone"][metric],
        "joint": utility["test"][metric],
        "one_table": plain,
        "steps": len(done.progress.losses),
        "chosen": min(valid, key=lambda place: valid[place]),
        "wall_s": done.progress.wall_s,
        "digest": digest(done),
    }


def table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a line a set."""
    lines: list[str] = []
    for name in dict.fromkeys(row["set"] for row in rows):
        own = [row for row in rows if row["set"] == name]
        gains = [row["joint"] - row["alone"] for row in own]
        cells = [name, f"{own[0]['rows']:,}", own[0]["test"], len(own), own[0]["metric"]]
        figures = [interval([row[key] for row in own]) for key in ("alone", "joint")]
        chosen = f"{np.median([row['chosen'] for row in own]):,.0f} of {own[0]['steps']:,}"
        plain = [
            interval([row["one_table"][place] for row in own]) if own[0]["one_table"] else "-" for place in range(2)
        ]
        lines.append("| " + " | ".join(map(str, [*cells, *figures, interval(gains, sign=True), chosen, *plain])) + " |")
    return lines


def verdict(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return in words where joint is ahead of alone, and where a learner in one table is ahead of joint."""
    gains, leads = dict[str, list[float]](), [dict[str, list[float]](), dict[str, list[float]]()]
    late_still = list[str]()
    for name in dict.fromkeys(row["set"] for row in rows):
        own = [row for row in rows if row["set"] == name]
        gains[name] = [row["joint"] - row["alone"] for row in own]
        for place, lead in enumerate(leads if own[0]["one_table"] else ()):
            lead[name] = [row["one_table"][place] - row["joint"] for row in own]
        late_still += [name] if any(late(row) for row in own) else []
    level = {name: found for name, found in gains.items() if not ahead(found)}
    said = f"Joint is ahead of alone, its interval above 0, on {len(gains) - len(level)} of {len(gains)} sets"
    alone, both = (listed({name: found for name, found in lead.items() if ahead(found)}) for lead in leads)
    parts = [f"{said}; not on {listed(level)}."]
    parts += [f"One table is ahead of joint, paired by seed, with the advertiser's columns alone on: {alone};"]
    parts += [f"with both parties' on: {both}."]
    parts += [f"Still best in the last tenth of their budget, with some seed: {', '.join(late_still) or 'none'}."]
    return " ".join(parts)


def ahead(differences: Sequence[float]) -> bool:
    """Return whether a mean difference over seeds has an interval above 0."""
    return float(np.mean(differences)) > half_width(differences)


def listed(found: Mapping[str, Sequence[float]]) -> str:
    """Return sets with their mean differences, or `none`."""
    return ", ".join(f"{name} ({interval(values, sign=True)})" for name, values in found.items()) or "none"


def _missing(name: str) -> str:
    spec = PLAIN[name].get("data", {"name": name})
    try:
        build("data", spec).describe(data_root())
    except DataError as error:
        return str(error)
    return ""


def _stored() -> list[dict[str, Any]]:
    """Return the rows that are there; those of an earlier rule are none."""
    rows = [json.loads(line) for line in ROWS.read_text(encoding="utf-8").splitlines()] if ROWS.is_file() else []
    return [row for row in rows if "one_table" in row]


if __name__ == "__main__":
    sys.exit(main())
