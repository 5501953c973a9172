"""Rows of trials whose truth is known: what a report is held against."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from experiments import results
from experiments.config import resolved
from experiments.results import Row
from experiments.schema import Config

RUN: dict[str, Any] = json.loads((Path(__file__).parents[1] / "experiments" / "example_row.json").read_text())


def trial(seed: int, defense: list[dict], auc: float, leaks: dict[str, float], **more: Any) -> Row:
    """A finished trial of an AUC under a stack of defenses; `leaks` is the leak AUC of each attack."""
    config = {"seed": seed, "backend": "local", "defense": defense, "attack": [{"name": name} for name in leaks]}
    run = json.loads(json.dumps(RUN)) | {"seed": seed}
    run["utility"]["test"] |= {"auc": auc, "reliability": [[0.1, 0.12, 100], [0.5, 0.45, 100], [0.8, 0.9, 100]]}
    run["gain"]["auc"]["value"] = auc - run["utility"]["advertiser_alone"]["auc"]
    run["leakage"] = {name: label_leak(value) for name, value in leaks.items()}
    run["privacy"] = {"ledger": more.pop("ledger", []), "wire": [wire("publisher"), wire("advertiser", defense)]}
    asked = resolved(Config.model_validate({**config, **more}))
    told = json.dumps([seed, defense, list(leaks), more], sort_keys=True)
    name = hashlib.sha256(told.encode()).hexdigest()[:12]
    return results.row_of(name, asked, run)


def label_leak(value: float) -> dict[str, Any]:
    return {
        "target": "labels",
        "leak_auc": value,
        "sign_free": max(value, 1 - value, 0.52),
        "chance": {"leak_auc": 0.5, "sign_free": 0.52},
        "prior_only": 0.5,
        "upper": max(value, 1 - value),
        "ci": [value - 0.01, value + 0.01],
        "ci_over": "batches",
        "labelled_rows": 1,
        "adversaries": ["publisher"],
    }


def wire(party: str, defense: list[dict] | None = None) -> dict[str, Any]:
    sends = {"publisher": ("advertiser", "embedding"), "advertiser": ("publisher", "gradient")}
    to, kind = sends[party]
    changed = [spec["name"] for spec in defense or ()]
    told = {"changed_by": changed, "behind": [], "codec": "raw", "sealed": False}
    return {"party": party, "to": [to], "kind": kind, "bytes": 1_000_000, **told}


def sweep(losses: dict[str, list[float]], leaks: dict[str, float], attack: str = "norm", **more: Any) -> list[Row]:
    """Trials of `no defense` at AUC .9 (its seeds differ), and of each defense its losses seed by seed and its leak."""
    seeds = range(len(next(iter(losses.values()))))
    base = [0.9 + 0.004 * (-1) ** seed for seed in seeds]
    rows = [trial(seed, [], base[seed], {attack: leaks.get("", 0.95) + 0.001 * seed}, **more) for seed in seeds]
    for name, lost in losses.items():
        rows += [
            trial(seed, [{"name": name}], base[seed] - lost[seed], {attack: leaks[name] + 0.001 * seed}, **more)
            for seed in seeds
        ]
    return rows
