"""What each codec of the wire costs in bytes and in AUC: `python -m experiments.bench.codecs` prints the table."""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import torch

from experiments.bench.methods import measured
from experiments.schema import Config, Wire
from vfl import checkpoint

CODECS: tuple[str, ...] = get_args(Wire.model_fields["codec"].annotation)
PLAIN = "raw"
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Trained:
    """One codec over all seeds: a row of figures each, `gain` in it against `raw` on the same test rows."""

    codec: str
    rows: list[Row]


def measure(data: str, epochs: int, seeds: int) -> list[Trained]:
    """Train with every codec on each seed."""
    found = {codec: list[Row]() for codec in CODECS}
    with tempfile.TemporaryDirectory() as folder:
        beside = Path(folder) / "scores.safetensors"
        for seed in range(seeds):
            for codec in CODECS:
                row, scores = measured(asked(data, epochs, seed, codec), None if codec == PLAIN else beside)
                if codec == PLAIN:
                    checkpoint.save(beside, {"scores": scores}, {})
                found[codec].append(row)
                sys.stderr.write(f"{data} seed {seed} {codec}: AUC {row['auc']:.4f}, {row['bytes']:,} bytes\n")
    return [Trained(codec, rows) for codec, rows in found.items()]


def asked(data: str, epochs: int, seed: int, codec: str) -> Config:
    """Return the run of one codec and seed."""
    return Config.model_validate(
        {
            "backend": "local",
            "seed": seed,
            "data": {"name": data},
            "train": {"epochs": epochs, "select": "best_valid"},
            "wire": {"codec": codec},
            "record": {"every": 0},
            "attack": [],
            "references": [],
        }
    )


def table(trained: Sequence[Trained]) -> list[str]:
    """Return a Markdown table: mean over the seeds with the least and greatest, and how many intervals leave 0 out."""
    whole = statistics.mean(row["bytes"] for row in trained[0].rows)
    lines = ["| codec | bytes sent, of raw | AUC | AUC less that of raw | seeds whose 95 % interval leaves 0 out |"]
    lines.append("| --- | ---: | --- | --- | --- |")
    for each in trained:
        share = statistics.mean(row["bytes"] for row in each.rows) / whole
        lines.append(
            f"| {each.codec} | {share:.3f} | {_ends([row['auc'] for row in each.rows], '.4f')} | {_gain(each)}"
        )
    return lines


def _gain(each: Trained) -> str:
    if each.codec == PLAIN:
        return "| |"
    gains = [row["gain"]["auc"] for row in each.rows]
    clear = sum(gain["ci"] is not None and not gain["ci"][0] <= 0 <= gain["ci"][1] for gain in gains)
    return f"{_ends([gain['value'] for gain in gains], '+.4f')} | {clear} of {len(gains)} |"


def _ends(values: Sequence[float], form: str) -> str:
    return f"{statistics.mean(values):{form}} [{min(values):{form}}, {max(values):{form}}]"


def main(arguments: Sequence[str] | None = None) -> None:
    """Train and print the table."""
    parser = argparse.ArgumentParser(prog="python -m experiments.bench.codecs", description=__doc__)
    parser.add_argument("--data", default="criteo")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    sys.stdout.write("\n".join(table(measure(options.data, options.epochs, options.seeds))) + "\n")


if __name__ == "__main__":
    main()
