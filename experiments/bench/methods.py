"""Compare training methods, every arm for as many steps and tested at its best validated epoch.

`python -m experiments.bench.methods --studies criteo digits --out docs/results/rows/methods` makes the runs that
have no row yet, the most wanted first, and can be stopped at any time.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from experiments.bench.arms import ARMS, EPOCHS, STUDIES, Arm, Cell, Study
from experiments.bench.fitting import fit
from experiments.bench.rows import add_row, read_rows
from experiments.plan import REFEREE, World, coordinator_plan, open_world, party_folder, party_specs
from experiments.schema import Config
from parties.judging import open_truth, tested
from parties.leftovers import pseudo_labels, write_leftover
from parties.spec import PartySpec
from vfl import checkpoint
from vfl.coordinator import Fit, phase_rounds
from vfl.metrics.utility import Utility, gain
from vfl.seeds import Seeds
from vfl.types import Phase, Pool, Role

Row = dict[str, Any]
VALIDATIONS = 30
"""About how often every run is validated, however long its epochs are."""

RESAMPLES = 500
FIGURES = ("accuracy", "auc", "log_loss", "ne", "ece")


def configured(study: Study, arm: Arm, overlap: float, seed: int) -> Config:
    """Return the configuration of one run, in which the arm spends the study's steps and no more."""
    settings, size = study.settings, study.settings.get("train", {}).get("batch_size", 256)
    train = {"batch_size": size, "select": "best_valid"}
    asked: Row = {
        "seed": seed,
        "backend": "local",
        "method": {"name": arm.method, **arm.options},
        "record": {"every": 0},
        "attack": [],
        "references": [],
        **settings,
        "align": {**settings.get("align", {}), "overlap": overlap},
        "train": {**train, "epochs": 0, "epoch_guard": "off", "checkpoint_every": 0},
    }
    config = Config.model_validate(asked)
    counts = pool_rows(open_world(config))
    spent = {
        key: max(1, round(share * study.steps / (1 if pool is None else -(-counts[pool] // size))))
        for key, (share, pool) in arm.spends.items()
    }
    asked["train"] |= {EPOCHS: spent.pop(EPOCHS, 0)}
    asked["method"] |= spent
    phases = coordinator_plan(Config.model_validate(asked)).phases
    asked["train"] |= {"validate_every": max(1, round(validated(phases, counts) / VALIDATIONS))}
    return Config.model_validate(asked)


def validated(phases: Sequence[Phase], counts: Mapping[Pool, int]) -> int:
    """Return how many rounds of these phases a validation may follow."""
    return sum(phase_rounds(phase, counts[phase.pool]) for phase in phases if phase.validate and phase.pool in counts)


def pool_rows(world: World) -> dict[Pool, int]:
    """Return how many training rows an epoch of each pool has."""
    holders = world.cut.holders()[world.cut.pools() == 0]
    aligned, own = int((holders < 0).sum()), int((holders == len(world.cut.parties) - 1).sum())
    return {Pool.TRAIN: aligned, Pool.LABELLED: aligned + own, Pool.UNION: len(holders)}


def passes(phases: Sequence[Phase], counts: Mapping[Pool, int]) -> float:
    """Return how many times training goes over the aligned rows, with or without labels."""
    over = [phase for phase in phases if phase.pool in counts]
    return sum(max(phase.epochs, phase.min_steps / -(-counts[phase.pool] // phase.batch_size)) for phase in over)


def measured(config: Config, beside: Path | None) -> tuple[Row, Tensor]:
    """Train one configuration and return its figures and its `(test, classes)` probabilities, in handle order.

    `beside` is a file of probabilities on the same rows; figures then hold what this run gains over them.
    """
    world = open_world(config)
    with tempfile.TemporaryDirectory() as folder:
        specs = party_specs(config, world, Path(folder))
        done = fit(config, specs, Path(folder))
        scores, labels, noted = _judged(specs, str(party_folder(Path(folder), REFEREE)))
    seeds, counts = Seeds(config.seed).scope("bench"), pool_rows(world)
    figures = Utility(resamples=1).result(scores, labels, seeds.numpy("utility"))
    row: Row = {name: figures[name] for name in FIGURES}
    row |= {"method": noted, **_cost(done), "passes": round(passes(coordinator_plan(config).phases, counts), 2)}
    if beside is not None:
        theirs = checkpoint.load(beside)[0]["scores"]
        row["gain"] = gain(scores, theirs, labels, seeds.numpy("gain"), RESAMPLES)
    return row, scores


def _judged(specs: Sequence[PartySpec], folder: str) -> tuple[Tensor, Tensor, Row]:
    players = [spec for spec in specs if spec.role != Role.REFEREE]
    shard, classes = players[-1].shard, players[-1].classes
    assert shard is not None
    truth, found = open_truth(shard, folder, classes)
    scores, labels = tested(truth, found, folder)
    write_leftover(players, folder, found)
    return scores, labels, pseudo_labels(open_truth(shard, folder, classes)[0], folder)


def _cost(done: Fit) -> Row:
    valid = done.progress.valid
    best = min(valid, key=lambda step: valid[step])
    sent = sum(int(str(value)) for own in done.closing.values() for key, value in own.items() if "bytes/" in key)
    steps = sum(loss is not None for loss in done.progress.losses)
    return {
        "valid_loss": valid[best],
        "best_step": best,
        "validations": len(valid),
        "rounds": len(done.progress.losses),
        "steps": steps,
        "bytes": sent,
        "wall_s": round(done.progress.wall_s, 2),
    }


def run(cells: Sequence[tuple[str, Cell]], out: Path, scratch: Path, budget_s: float) -> None:
    """Make the runs that have no row yet, in this order, until the budget is used up."""
    names = dict.fromkeys(name for name, _ in cells)
    ends = time.monotonic() + budget_s
    done = {
        name: {(row["arm"], row["overlap"], row["seed"]) for row in read_rows(out / f"{name}.jsonl")} for name in names
    }
    for name, cell in cells:
        if time.monotonic() > ends:
            return
        if cell not in done[name]:
            row = _run(name, cell, scratch)
            add_row(out / f"{name}.jsonl", row)
            sys.stderr.write(f"{name} {cell}: {row[STUDIES[name].metric]:.4f}, {row['wall_s']} s\n")


def ordered(names: Sequence[str], tiers: Sequence[int] | None = None) -> Iterator[tuple[str, Cell]]:
    """Yield study and cell: the first tier of every study, then the second, and so on; or some tiers alone."""
    for place, tier in enumerate(zip_longest(*(STUDIES[name].cells() for name in names), fillvalue=[])):
        if tiers is None or place in tiers:
            for name, cells in zip(names, tier, strict=True):
                yield from ((name, cell) for cell in cells)


def _run(name: str, cell: Cell, scratch: Path) -> Row:
    study, (arm, overlap, seed) = STUDIES[name], cell
    beside = None if arm in ("vanilla", "oracle") else _vanilla(name, overlap, seed, scratch)
    row, scores = measured(configured(study, _arm(study, arm), overlap, seed), beside)
    if arm == "vanilla":
        checkpoint.save(_kept(name, overlap, seed, scratch), {"scores": scores}, {})
    facts = {"study": name, "arm": arm, "overlap": overlap, "seed": seed}
    return {**facts, **row, "day": datetime.now(UTC).date().isoformat()}


def _arm(study: Study, name: str) -> Arm:
    arm = ARMS[name]
    return Arm(arm.method, {**arm.options, **study.changed.get(name, {})}, arm.spends)


def _vanilla(name: str, overlap: float, seed: int, scratch: Path) -> Path:
    """Return the file of `vanilla`'s probabilities on the same test rows, made again where it is gone."""
    path = _kept(name, overlap, seed, scratch)
    if not path.exists():
        _, scores = measured(configured(STUDIES[name], ARMS["vanilla"], overlap, seed), None)
        checkpoint.save(path, {"scores": scores}, {})
    return path


def _kept(name: str, overlap: float, seed: int, scratch: Path) -> Path:
    scratch.mkdir(parents=True, exist_ok=True)
    return scratch / f"{name}-{overlap}-{seed}.safetensors"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the studies that are asked for."""
    parser = argparse.ArgumentParser(prog="python -m experiments.bench.methods", description=__doc__)
    parser.add_argument("--studies", nargs="+", choices=list(STUDIES), default=list(STUDIES))
    parser.add_argument("--out", type=Path, default=Path("docs/results/rows/methods"))
    parser.add_argument("--scratch", type=Path, default=Path(tempfile.gettempdir()) / "vfl-bench-methods")
    parser.add_argument("--tiers", type=int, nargs="+", help="which tiers of cells, counted from 0; default: all")
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS))
    parser.add_argument("--budget-s", type=float, default=3600.0)
    asked = parser.parse_args(arguments)
    torch.set_num_threads(1)
    cells = [(name, cell) for name, cell in ordered(asked.studies, asked.tiers) if cell[0] in asked.arms]
    run(cells, asked.out, asked.scratch, asked.budget_s)


if __name__ == "__main__":
    main()
