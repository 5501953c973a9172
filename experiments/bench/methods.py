"""Compare training methods where few rows are aligned, every arm for as many steps and at its best validation epoch.

`python -m experiments.bench.methods --out docs/results/rows/digits.jsonl` runs what the file does not hold yet, one
line a run, and can be stopped at any time; `--table` writes a Markdown table of what it holds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experiments.plan import open_world
from experiments.progress import Progress, Silent
from experiments.run import simulate
from experiments.schema import Config

STEPS = 480
MAIN = ("vanilla", "local", "local_all", "advonly", "risa")
RISA = {"warm_steps": 160, "round_steps": 80, "rounds": 4}
ARMS: dict[str, dict[str, Any]] = {
    "vanilla": {"name": "vanilla"},
    "oracle": {"name": "oracle"},
    "local": {"name": "local", "min_steps": STEPS},
    "local_all": {"name": "local_all", "min_steps": STEPS},
    "advonly": {"name": "advonly", "min_steps": STEPS},
    "risa": {"name": "risa", **RISA},
    "risa, no publisher rows": {"name": "risa", **RISA, "share_first": 0.0, "share_last": 0.0},
    "risa, all publisher rows": {"name": "risa", **RISA, "share_first": 1.0, "share_last": 1.0},
    "risa, fused prediction": {"name": "risa", **RISA, "predict": "fused"},
    "risa, confidence": {"name": "risa", **RISA, "select_by": "confidence"},
    "risa, entropy": {"name": "risa", **RISA, "select_by": "entropy"},
    "risa, imputed party votes": {"name": "risa", **RISA, "imputed_weight": 1.0},
    "risa, labels unknown": {"name": "risa", **RISA, "leftover_labels": "unknown"},
    "risa, zero": {"name": "risa", **RISA, "impute": "zero"},
    "risa, knn": {"name": "risa", **RISA, "impute": "knn"},
    "risa, regression": {"name": "risa", **RISA, "impute": "regression", "refit_every": 80},
    "diffu_at": {"name": "diffu_at", "min_steps": STEPS},
    "heuristic": {"name": "heuristic", "min_steps": STEPS},
    "fedud": {"name": "fedud", "warm_steps": STEPS // 2, "min_steps": STEPS // 2},
    "ss_vfl": {"name": "ss_vfl", "pretrain_epochs": 20},
    "fedhssl": {"name": "fedhssl", "pretrain_epochs": 20},
    "vfl_mpd": {"name": "vfl_mpd", "pretrain_epochs": 50},
    "jpl": {"name": "jpl"},
    "fedbcd": {"name": "fedbcd", "local_steps": 3},
    "celu": {"name": "celu"},
}
ON_ALL_LABELS = ("jpl",)
"""Arms without a `min_steps` of their own whose epochs run over the advertiser's leftovers too."""


@dataclass(frozen=True)
class Study:
    """What is compared: a data set, its overlaps and seeds; every arm at `detailed` overlaps, the main ones at all."""

    data: str
    overlaps: Sequence[float]
    detailed: Sequence[float]
    seeds: int
    settings: dict[str, Any] = field(default_factory=dict[str, Any])

    def runs(self) -> Iterator[tuple[str, float, int]]:
        """Yield arm, overlap and seed: the main table first, then the rest."""
        for seed in range(self.seeds):
            yield "oracle", 1.0, seed
            for overlap in self.overlaps:
                yield from ((arm, overlap, seed) for arm in MAIN)
        for seed in range(self.seeds):
            for overlap in self.detailed:
                yield from ((arm, overlap, seed) for arm in ARMS if arm not in (*MAIN, "oracle"))


def configured(study: Study, arm: str, overlap: float, seed: int) -> Config:
    """Return the configuration of one run, with as many epochs as `STEPS` steps take."""
    asked = {
        "seed": seed,
        "data": study.data,
        "backend": "local",
        "align": {"overlap": overlap},
        "method": ARMS[arm],
        "record": {"every": 0},
        "attack": [],
        "references": [],
        "train": {"select": "best_valid", "checkpoint_every": 0},
        **study.settings,
    }
    config = Config.model_validate(asked)
    if "min_steps" in ARMS[arm] or "rounds" in ARMS[arm] or "warm_steps" in ARMS[arm]:
        return config.model_copy(update={"train": config.train.model_copy(update={"epochs": 1})})
    cut = open_world(config).cut
    rows = int(((cut.pools() == 0) & (cut.holders() < 0)).sum())
    rows += int((cut.holders() == len(cut.parties) - 1).sum()) if arm in ON_ALL_LABELS else 0
    epochs = -(-STEPS // -(-rows // config.train.batch_size))
    return config.model_copy(update={"train": config.train.model_copy(update={"epochs": epochs})})


def run(study: Study, out: Path, budget_s: float) -> None:
    """Run what `out` does not hold yet, and append one line each, until the budget is used up."""
    done = {(row["arm"], row["overlap"], row["seed"]) for row in read(out)}
    ends = time.monotonic() + budget_s
    for arm, overlap, seed in study.runs():
        if (arm, overlap, seed) in done or time.monotonic() > ends:
            continue
        quiet: Progress = Silent()
        with tempfile.TemporaryDirectory() as folder:
            config = configured(study, arm, overlap, seed)
            row = simulate(config, Path(folder) / "run", ray_address=None, resume=None, progress=quiet)
        test = {name: row["utility"]["test"][name] for name in ("accuracy", "auc", "log_loss", "ece")}
        kept = {"data": study.data, "arm": arm, "overlap": overlap, "seed": seed, **test, "method": row["method"]}
        cost = {"steps": row["cost"]["steps"], "wall_s": row["cost"]["wall_s"], "bytes": row["cost"]["bytes"]}
        out.parent.mkdir(parents=True, exist_ok=True)
        with out.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({**kept, **cost}) + "\n")


def read(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a results file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def table(rows: Sequence[dict[str, Any]], metric: str) -> str:
    """Return a Markdown table: one line an arm, one column an overlap, mean ± standard deviation (seeds)."""
    overlaps = sorted({row["overlap"] for row in rows})
    lines = [f"| {metric} | " + " | ".join(f"{overlap:.0%}" for overlap in overlaps) + " |"]
    lines.append("|---" * (len(overlaps) + 1) + "|")
    for arm in ARMS:
        cells = [_cell([row[metric] for row in rows if (row["arm"], row["overlap"]) == (arm, at)]) for at in overlaps]
        if any(cells):
            lines.append(f"| {arm} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(values: Sequence[float]) -> str:
    if not values:
        return ""
    spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.3f}{spread} ({len(values)})"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the study of one data set, or write its table to standard output."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--overlaps", type=float, nargs="+", default=[0.01, 0.02, 0.05, 0.1, 0.5])
    parser.add_argument("--detailed", type=float, nargs="+", default=[0.05])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--budget-s", type=float, default=3600.0)
    parser.add_argument("--table", default="", help="write a table of this metric instead of running")
    asked = parser.parse_args(arguments)
    if asked.table:
        sys.stdout.write(table(read(asked.out), asked.table))
        return
    run(Study(asked.data, asked.overlaps, asked.detailed, asked.seeds), asked.out, asked.budget_s)


if __name__ == "__main__":
    main()
