"""What `vfl data` tells of a data set and how a configuration would cut it; nothing here trains."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import parquet

from experiments.plan import ADVERTISER, World, open_world
from experiments.roots import data_root
from experiments.schema import Config
from vfl.data import Described, Keyed, Source
from vfl.data.cut import TEST, TRAIN, VALID
from vfl.data.shard import frames
from vfl.data.synthetic_ads import CATEGORICAL, KEY, NUMERIC, TRUTH, SyntheticAds
from vfl.errors import DataError, UserError
from vfl.registry import build, entries
from vfl.seeds import Seeds
from vfl.types import PartyId

FILES: Mapping[str, tuple[str, ...]] = {
    "publisher": (KEY, *NUMERIC["publisher"], *CATEGORICAL["publisher"]),
    "advertiser": (KEY, *NUMERIC["advertiser"], *CATEGORICAL["advertiser"], "converted"),
    "truth": (KEY, *TRUTH),
}
"""What `generate` writes: a table a party, joined on the key, and what no party may see."""


def listing(root: Path) -> list[dict[str, Any]]:
    """Return every data set with whether its files are there, or why not."""
    found: list[dict[str, Any]] = []
    for entry in entries("data"):
        note, rows = "", None
        try:
            rows = build("data", entry.name).describe(root).rows
        except DataError as error:
            note = error.message
        except UserError:
            note = "your own files: name publisher, advertiser, key and label"
        found.append({"name": entry.name, "summary": entry.summary, "rows": rows, "note": note})
    return found


def description(config: Config) -> dict[str, Any]:
    """Return a data set's rows, classes and columns, each with its type and how often it is missing, by party."""
    world = open_world(config)
    root = data_root(config.data.root)
    source: Source = build("data", dict(world.source))
    labels = np.bincount(source.labels(root), minlength=len(world.described.classes))
    parties = {
        party: {
            "rows": world.described.held.get(party, world.described.rows),
            "columns": _columns(source, world, party),
        }
        for party in world.columns
    }
    return {
        "schema": 1,
        "name": config.data.name,
        "synthetic": world.described.synthetic,
        "rows": world.described.rows,
        "label": world.described.label,
        "classes": {name: int(count) for name, count in zip(world.described.classes, labels, strict=True)},
        "official_test": world.described.official_test,
        "times": list(world.described.times),
        "parties": parties,
        "notes": list(world.described.notes),
        "files": [str(path) for path in world.described.files],
    }


def cutting(config: Config, out: Path | None) -> dict[str, Any]:
    """Return how a configuration cuts its data set: columns and rows by party, and rows by pool.

    With `out`, each party's rows are written to `OUT/PARTY.parquet`, joined on the column `id`, so that `data: csv`
    reads them again; the advertiser's hold the label. Sets whose parties bring files of their own are not written.
    """
    world = open_world(config)
    pools = world.cut.pools()
    names = {"train": TRAIN, "valid": VALID, "test": TEST}
    held = world.described.held or {party: len(world.cut.held_by(party)) for party in world.columns}
    if out is not None:
        if world.keyed:
            raise UserError(
                "got a set whose parties bring files of their own, allowed one table; leave it out", key="--out"
            )
        for party in world.columns:
            _write_shard(config, world, party, out)
    return {
        "schema": 1,
        "name": config.data.name,
        "pools": {name: int((pools == code).sum()) for name, code in names.items()},
        "overlap": world.cut.overlap,
        "parties": {
            party: {"rows": int(held[party]), "columns": list(columns)} for party, columns in world.columns.items()
        },
        "out": None if out is None else str(out),
    }


def generate(options: Mapping[str, Any], out: Path, overlap: float = 1.0) -> dict[str, Any]:
    """Write synthetic advertising data to three parquet files in `out`, a block of rows at a time.

    A share `overlap` of the rows, 0 to 1, is in both parties' files, half of the others in each alone; drawn row by
    row, from the set's seed. The truth is of all rows.
    """
    if not 0 <= overlap <= 1:
        raise UserError(f"got {overlap}, allowed 0 to 1; write the share of rows in both files", key="--overlap")
    ads: SyntheticAds = build("data", {"name": "synthetic_ads", **options})
    out.mkdir(parents=True, exist_ok=True)
    for name, columns in FILES.items():
        made = ads.stream(columns)
        _write_frames(made if name == "truth" else _held(made, name, overlap, ads.seed), out / f"{name}.parquet")
    files = {name: str(out / f"{name}.parquet") for name in FILES}
    use = {"name": "csv", "publisher": files["publisher"], "advertiser": files["advertiser"], "key": KEY}
    return {
        "schema": 1,
        "synthetic": True,
        "rows": ads.rows,
        "files": files,
        "data": {**use, "label": "converted"},
    }


def _held(frames: Iterator[pd.DataFrame], party: PartyId, overlap: float, seed: int) -> Iterator[pd.DataFrame]:
    """Yield the rows that are in a party's file."""
    alone, seeds = (1 - overlap) / 2, Seeds(seed).scope("generate")
    for block, frame in enumerate(frames):
        drawn = seeds.numpy("holders", block).uniform(size=len(frame))
        yield frame.iloc[np.flatnonzero(drawn >= alone if party == ADVERTISER else drawn < 1 - alone)]


def _columns(source: Source, world: World, party: PartyId) -> dict[str, dict[str, Any]]:
    table = source.of(party, world.tables.get(party)) if isinstance(source, Keyed) else source
    described: Described = table.describe(world.root)
    names, rows = world.columns[party], 0
    missing, distinct = dict.fromkeys(names, 0), {name: set[Any]() for name in names}
    for frame in frames(table, names, world.root):
        rows += len(frame)
        for name in names:
            there = frame[name].dropna()
            missing[name] += len(frame) - len(there)
            distinct[name].update(there.unique().tolist())
    return {
        name: {
            "type": "numeric" if name in described.numeric else "categorical",
            "missing": missing[name] / max(rows, 1),
            "distinct": len(distinct[name]),
        }
        for name in names
    }


def _write_shard(config: Config, world: World, party: PartyId, out: Path) -> None:
    source: Source = build("data", dict(world.source))
    rows = world.cut.held_by(party)
    frame = source.read(world.columns[party], world.root).iloc[rows]
    columns: dict[str, Any] = {"id": rows, **{name: frame[name].to_numpy() for name in frame}}
    if party == ADVERTISER:
        columns[world.described.label] = np.array(world.described.classes)[source.labels(world.root)[rows]]
    out.mkdir(parents=True, exist_ok=True)
    _write_frames(iter([pd.DataFrame(columns)]), out / f"{party}.parquet")


def _write_frames(frames: Iterator[pd.DataFrame], path: Path) -> None:
    writer: parquet.ParquetWriter | None = None
    for frame in frames:
        table = pa.Table.from_pandas(frame, preserve_index=False)
        if writer is None:
            writer = parquet.ParquetWriter(path, table.schema)
        writer.write_table(table.cast(writer.schema))
    if writer is not None:
        writer.close()
