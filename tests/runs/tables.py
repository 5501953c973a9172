"""Two small tables with ids of their own, and the run on them that tests of every grid play."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from harness import config

from experiments.schema import Config
from vfl.data.breast_cancer import COLUMNS, ERROR, BreastCancer


def section(folder: Path) -> dict[str, Any]:
    """Return the `data` section of the files that `write` writes."""
    files = {party: str(folder / f"{party}.csv") for party in ("publisher", "advertiser")}
    return {"name": "csv", "key": "id", "label": "bought", **files}


def scenario(folder: Path, backend: str = "local") -> Config:
    """Write both files and return the run that has to give the same figures on every grid.

    Two companies' files matched by key, sealed envelopes, two rounds of two mini-batches each.
    """
    write(folder)
    return config(
        backend=backend,
        data=section(folder),
        train={"epochs": 1, "batch_size": 100, "batches_per_message": 2},
        holdout={"test": 0.25, "valid": 0.0},
        wire={"channel": "on"},
    )


def write(folder: Path) -> list[str]:
    """Write a publisher's and an advertiser's file to a folder, and return ids that both hold."""
    source = BreastCancer()
    features = source.read(COLUMNS, None)
    ids = [f"user-{hashlib.sha256(str(place).encode()).hexdigest()[:20]}" for place in range(len(features))]
    whole = features.assign(id=ids, bought=source.labels(None))
    folder.mkdir(parents=True, exist_ok=True)
    columns = {"publisher": ["id", *COLUMNS[:10]], "advertiser": ["id", *ERROR, "bought"]}
    rows = {"publisher": whole[20:], "advertiser": whole[:-20]}
    for party, names in columns.items():
        rows[party][names].to_csv(folder / f"{party}.csv", index=False)
    return ids[20:60]
