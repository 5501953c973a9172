"""Two small tables with ids of their own, for tests that look for an id where none should be."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from vfl.data.breast_cancer import COLUMNS, ERROR, BreastCancer


def section(folder: Path) -> dict[str, Any]:
    """Return the `data` section of the files that `write` writes."""
    files = {party: str(folder / f"{party}.csv") for party in ("publisher", "advertiser")}
    return {"name": "csv", "key": "id", "label": "bought", **files}


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
