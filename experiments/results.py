"""The results store: one row a trial, in a parquet file of its own, read together as one table.

A file is written whole or not at all and named by its trial, so any number of workers write at once and a trial that
is run again replaces its row. Columns: `trial`, `status` (ok | failed), `error`, `wall_s`, `peak_rss_mb`, `bytes`;
`config.*`, the resolved configuration; and the figures of the run's row under their dotted names (`gain.auc.value`,
`leakage.norm.leak_auc`), among them `version`, the package's, and `data.sha256`, the hash of what was read. Lists and
stacks of members are compact JSON text. `wall_s` is that of the trial as it went: references and a private alignment
that another trial of its sweep had made cost it nothing.
`schema` is the version of all this.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from experiments.config import load as load_config
from experiments.config import resolved
from experiments.folder import CONFIG, ROW, finished, later_attacks, read_row
from experiments.present import size
from experiments.progress import duration
from vfl.errors import UserError
from vfl.whole import write_whole

SCHEMA = 1
ONE_ROW: dict[str, Any] = {"compression": "none", "use_dictionary": False, "write_statistics": False}
"""What pays over many rows is all there is in a file of one: without it the file is two thirds, and read as quickly."""
HEAD = ("schema", "trial", "status")
"""Columns that every row has."""
ROWS = "rows"
"""Folder of a sweep that holds its rows."""
LISTING = "sweep.json"
"""File of a sweep that says which trials it has, and the sweep file they came from."""

Row = dict[str, Any]


def row_of(trial: str, config: Mapping[str, Any], run: Mapping[str, Any]) -> Row:
    """Return the row of a finished trial from its resolved configuration and its run's row."""
    cost = run["cost"]
    facts = {
        "wall_s": cost["total_s"],
        "peak_rss_mb": max(cost["peak_rss_mb"].values(), default=None),
        "bytes": sum(cost["bytes"].values()),
    }
    told = {key: value for key, value in run.items() if key not in ("schema", "seed", "out", "run_id")}
    return {**_head(trial, "ok", None, config), **facts, **flat(told)}


def failed_row(trial: str, config: Mapping[str, Any], error: str) -> Row:
    """Return the row of a trial that failed."""
    return _head(trial, "failed", error, config)


def _head(trial: str, status: str, error: str | None, config: Mapping[str, Any]) -> Row:
    named = flat({"config": dict(config)})
    return {"schema": SCHEMA, "trial": trial, "seed": config["seed"], "status": status, "error": error, **named}


def flat(values: Mapping[str, Any], prefix: str = "") -> Row:
    """Return nested values under dotted names; a list is one value, as compact JSON."""
    found: Row = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            found.update(flat(value, f"{name}."))
        elif isinstance(value, list | tuple):
            found[name] = json.dumps(value, separators=(",", ":"), sort_keys=True)
        else:
            found[name] = value
    return found


def write(out: Path, row: Row) -> None:
    """Write one trial's row into the sweep directory `out`, whole or not at all."""
    folder = out / ROWS
    folder.mkdir(parents=True, exist_ok=True)
    stream = io.BytesIO()
    pq.write_table(pa.table({key: [value] for key, value in row.items()}), stream, **ONE_ROW)
    write_whole(folder / f"{row['trial']}.parquet", stream.getvalue())


def enlist(out: Path, trials: Sequence[str], text: str) -> None:
    """Note the trials of the sweep in `out` and the sweep file's text: rows of other trials are no part of it."""
    content = json.dumps({"trials": list(trials), "file": text}, indent=1)
    write_whole(out / LISTING, f"{content}\n".encode())


def left_out(out: Path) -> int:
    """Return how many rows lie in a sweep directory that are of none of its trials, as after a change of its file."""
    enlisted = _trials(out / LISTING)
    return 0 if enlisted is None else len({path.stem for path in (out / ROWS).glob("*.parquet")} - enlisted)


def _trials(listing: Path) -> frozenset[str] | None:
    if not listing.exists():
        return None
    try:
        return frozenset(json.loads(listing.read_text(encoding="utf-8"))["trials"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = type(error).__name__
        raise UserError(f"cannot be read ({reason}); delete it and resume the sweep", where=str(listing)) from None


def known(out: Path) -> dict[str, str]:
    """Return the status of each trial that has a row; raises `UserError` for a file that is no row of this version."""
    paths = sorted((out / ROWS).glob("*.parquet"))
    return {path.stem: str(_read(path, HEAD)["status"][0].as_py()) for path in paths}


def summary(out: Path, trial: str) -> str:
    """Return one trial of a sweep in a line: what it is worth, its worst leak of labels, and what it took."""
    row = pq.ParquetFile(out / ROWS / f"{trial}.parquet").read().to_pylist()[0]
    if row["status"] != "ok":
        return f"{trial}: {row['error']}"
    leaks = {key.split(".")[1]: value for key, value in row.items() if re.fullmatch(r"leakage\.[^.]+\.leak_auc", key)}
    known = {name: max(value, 1 - value) for name, value in leaks.items() if value is not None}
    auc = row.get("utility.test.auc")
    words = [] if auc is None else [f"AUC {auc:.4f}"]
    words += [f"worst leak AUC {max(known.values()):.3f}"] if known else []
    words += [duration(row["wall_s"])]
    words += [f"{row['peak_rss_mb']:,.0f} MB"] if row["peak_rss_mb"] is not None else []
    words.append(f"{size(row['bytes'])} sent")
    return f"{trial}: {', '.join(words)}"


def load(path: Path | str) -> pd.DataFrame:
    """Return one row a trial, of a sweep directory, of one run directory, or of a folder of run directories.

    A figure that a trial does not have is missing. Raises `UserError` where there is no finished run.
    """
    frame = _one_table(_tables(Path(path))).to_pandas()
    return frame.sort_values("trial", ignore_index=True)


def _one_table(tables: Sequence[pa.Table]) -> pa.Table:
    """Return the rows of all tables; a column that is text in one trial and a number in another is text in all."""
    kinds: dict[str, set[bool]] = {}
    for field in (field for table in tables for field in table.schema):
        if not pa.types.is_null(field.type):
            kinds.setdefault(field.name, set()).add(pa.types.is_string(field.type))
    mixed = {name for name, text in kinds.items() if len(text) > 1}
    return pa.concat_tables([_as_text(table, mixed) for table in tables], promote_options="permissive")


def _as_text(table: pa.Table, mixed: Collection[str]) -> pa.Table:
    for place, name in enumerate(table.column_names):
        value = table[name][0].as_py() if name in mixed else None
        if value is not None and not isinstance(value, str):
            table = table.set_column(place, name, pa.array([json.dumps(value)]))
    return table


def rows(path: Path | str) -> list[Row]:
    """Return the same as one mapping a trial, each with the columns that it has, in the types it was written in."""
    found = [table.to_pylist()[0] for table in _tables(Path(path))]
    return sorted(found, key=lambda row: str(row["trial"]))


def _tables(folder: Path) -> list[pa.Table]:
    if not folder.is_dir():
        raise UserError("no such directory; name what `vfl sweep` or `vfl simulate` wrote", where=str(folder))
    enlisted = _trials(folder / LISTING)
    files = sorted((folder / ROWS).glob("*.parquet"))
    files = [file for file in files if enlisted is None or file.stem in enlisted]
    tables = [_read(file) for file in files] if files else [_table(run) for run in _runs(folder)]
    if not tables:
        raise UserError(
            "got no finished run in it, allowed a sweep or run directories; run one first", where=str(folder)
        )
    return tables


def _read(file: Path, columns: Sequence[str] | None = None) -> pa.Table:
    try:
        table = pq.ParquetFile(file).read(columns)
    except (OSError, pa.ArrowInvalid) as error:
        reason = type(error).__name__
        raise UserError(f"cannot be read ({reason}); delete it and resume the sweep", where=str(file)) from None
    if table.num_rows != 1 or not set(HEAD) <= set(table.column_names):
        raise UserError("got no row of a trial, allowed one a file; move it elsewhere", where=str(file))
    version = table["schema"][0].as_py()
    if version != SCHEMA:
        advice = "run the sweep again in another directory"
        raise UserError(f"got rows of schema {version}, allowed {SCHEMA}; {advice}", where=str(file))
    return table


def _runs(folder: Path) -> list[Path]:
    inside = sorted({found.parent for found in folder.glob(f"*/{ROW}")})
    return [run for run in [folder, *inside] if finished(run)]


def _table(run: Path) -> pa.Table:
    row = read_row(run)
    later = {f"{name} (later)": figures for name, figures in later_attacks(run).items()}
    row = {**row, "leakage": {**row["leakage"], **later}}
    config = resolved(load_config(run / CONFIG))
    return pa.table({key: [value] for key, value in row_of(str(row["run_id"]), config, row).items()})
