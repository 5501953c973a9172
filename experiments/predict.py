"""`vfl predict`: a finished run's model on other rows, and what a party that stays away costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from experiments import rundir
from experiments.config import load
from experiments.folder import CONFIG, read_row
from experiments.plan import REFEREE, open_world, party_folder, party_specs
from experiments.run import data_hash
from experiments.schema import ADVERTISER
from parties.serving import Trained, auc
from vfl.data import Described
from vfl.data.csv import ColumnType, CsvTable
from vfl.data.encode import UNKNOWN, Encoder
from vfl.data.shard import load_features, load_labels
from vfl.data.tables import header
from vfl.errors import DataError, UserError
from vfl.types import PartyId


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be scored: files by party, joined on `key`, or the run's own test rows where there are none."""

    files: Mapping[PartyId, Path]
    key: str | None
    absent: tuple[PartyId, ...]


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows in one order at every party: frames, what each is called, and classes where they are known."""

    frames: Mapping[PartyId, pd.DataFrame]
    names: Sequence[str]
    labels: Tensor | None


def predict(run_dir: Path, asked: Asked, out: Path | None) -> dict[str, Any]:
    """Score rows with a finished run's model and return the figures; scores by row go to `out`.

    Where a publisher is absent and all files are there, the AUC it costs is the difference to the model with everyone.
    """
    row = read_row(run_dir)
    config = load(run_dir / CONFIG, ())
    world = open_world(config)
    rundir.require_unchanged(run_dir, data_hash(world))
    _check_parties(asked, world.publishers)
    specs = party_specs(config, world, run_dir)
    trained = Trained(specs, {spec.party: party_folder(run_dir, spec.party) for spec in specs})
    shards = {spec.party: spec.shard for spec in specs if spec.party != REFEREE}
    encoders = {party: _encoder(run_dir, party) for party, shard in shards.items() if shard}
    if asked.files:
        rows = _with_labels(_from_files(asked, encoders), asked, world.described)
    else:
        found = {party: trained.test_rows(party).numpy() for party in shards}
        frames = {p: load_features(s).frame.iloc[found[p]].reset_index(drop=True) for p, s in shards.items() if s}
        truth, own = shards[ADVERTISER], found[ADVERTISER]
        if truth is None:
            raise UserError("the advertiser has no rows", where=str(run_dir))
        whole = load_labels(truth)
        labels = whole[own] if world.keyed else whole[load_features(truth).ids[own]]
        rows = Rows(frames, [str(place) for place in range(len(own))], torch.from_numpy(labels))
    scores = trained.scores(rows.frames, asked.absent)
    figures = _figures(row, trained, rows, asked, scores)
    figures["unseen"] = {party: unseen(encoders[party], frame) for party, frame in rows.frames.items()}
    if out is not None:
        _write(out, rows, scores, world.described.classes)
        figures["out"] = str(out)
    return figures


def _figures(row: Mapping[str, Any], trained: Trained, rows: Rows, asked: Asked, scores: Tensor) -> dict[str, Any]:
    found: dict[str, Any] = {"run_id": row["run_id"], "rows": len(rows.names), "absent": list(asked.absent)}
    found["auc"] = None if rows.labels is None else auc(scores, rows.labels)
    if asked.absent and rows.labels is not None and set(asked.absent) <= set(rows.frames):
        everyone = auc(trained.scores(rows.frames), rows.labels)
        known = everyone is not None and found["auc"] is not None
        found["with_everyone"] = {"auc": everyone, "lost": everyone - found["auc"] if known else None}
    return found


def unseen(encoder: Encoder, frame: pd.DataFrame) -> float:
    """Return the share, 0 to 1, of a frame's categorical values that the run's training rows did not have."""
    _, ids = encoder.transform(frame)
    return float((ids == UNKNOWN).double().mean()) if ids.numel() else 0.0


def _encoder(run_dir: Path, party: PartyId) -> Encoder:
    path = party_folder(run_dir, party) / "encoder.json"
    try:
        return Encoder.from_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        message = f"cannot be read ({type(error).__name__}); the run was copied without it, or it was changed"
        raise DataError(message, where=str(path)) from None


def _from_files(asked: Asked, encoders: Mapping[PartyId, Encoder]) -> Rows:
    """Read each party's own file, and bring the rows that all of them hold into one order, by key."""
    needed = [party for party in encoders if party not in asked.absent]
    missing = [party for party in needed if party not in asked.files]
    if missing:
        raise UserError(f"got no file of {', '.join(missing)}; name it as PARTY=FILE, or --absent", where="--file")
    tables = {party: _table(path, asked.key, encoders[party]) for party, path in asked.files.items()}
    keys = {party: pd.Index(table.keys(None)) for party, table in tables.items()}
    common = [key for key in keys[ADVERTISER] if all(key in each for each in keys.values())]
    if not common:
        raise UserError(f"got no {asked.key} that all files hold, allowed one or more; check the key", where="--file")
    frames: dict[PartyId, pd.DataFrame] = {}
    for party, table in tables.items():
        encoder = encoders[party]
        frame = table.read([*encoder.numeric, *encoder.categorical], None)
        frames[party] = frame.iloc[keys[party].get_indexer(pd.Index(common))].reset_index(drop=True)
    return Rows(frames, common, None)


def _with_labels(rows: Rows, asked: Asked, described: Described) -> Rows:
    """Return the rows with their classes, where the advertiser's file has the label's column."""
    path, label, classes = asked.files[ADVERTISER], described.label, described.classes
    if label not in header(path):
        return rows
    table = CsvTable(str(path), asked.key or "", label, owns_label=True, duplicates="error", types={})
    found = table.describe(None).classes
    strange = [name for name in found if name not in classes]
    if strange:
        got = f"got class {strange[0]!r}, allowed {', '.join(classes)}"
        raise UserError(f"{got}; mend the label", key=label, where=str(path))
    ids = pd.Index(classes).get_indexer(pd.Index(found)).astype(np.int64)[table.labels(None)]
    places = pd.Index(table.keys(None)).get_indexer(pd.Index(rows.names))
    return Rows(rows.frames, rows.names, torch.from_numpy(ids[places]))


def _table(path: Path, key: str | None, encoder: Encoder) -> CsvTable:
    """Return a party's file, its columns read as the run read them: `15` is a category where it was one."""
    types: dict[str, ColumnType] = dict.fromkeys(encoder.numeric, "numeric")
    types |= dict.fromkeys(encoder.categorical, "categorical")
    return CsvTable(str(path), key or "", label="", owns_label=False, duplicates="error", types=types)


def _check_parties(asked: Asked, publishers: Sequence[PartyId]) -> None:
    if asked.files and not asked.key:
        raise UserError("got files without a key, allowed a column that all of them have; name it", where="--key")
    for option, names, known in (
        ("--absent", asked.absent, publishers),
        ("--file", tuple(asked.files), (*publishers, ADVERTISER)),
    ):
        for name in names:
            if name not in known:
                raise UserError(f"got {name!r}, allowed {', '.join(known)}; name one of these", where=option)


def _write(out: Path, rows: Rows, scores: Tensor, classes: Sequence[str]) -> None:
    table = pd.DataFrame(scores.numpy(), columns=[f"p_{name}" for name in classes])
    table.insert(0, "row", list(rows.names))
    try:
        table.to_csv(out, index=False)
    except OSError as error:
        raise UserError(
            f"cannot be written ({error.strerror}); name another file", key=str(out), where="--out"
        ) from None
