"""Load what one party holds from the reference it was given: its own rows, its own columns, labels if it owns them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd

from vfl.data import Batched, Keyed, Source, Table
from vfl.data.checks import check_columns, check_filled, check_label
from vfl.data.cut import TRAIN, OfficialTest, RowCut, Shard, pack
from vfl.data.keys import ids_of, places
from vfl.errors import ConfigError, DataError
from vfl.registry import build
from vfl.sealed import Sealed
from vfl.types import PartyId

__all__ = [
    "LocalTable",
    "RowCut",
    "Shard",
    "labels_of",
    "load_features",
    "load_ids",
    "load_keys",
    "load_labels",
    "load_pools",
    "official_test",
    "open_source",
    "pack",
]


@dataclass(frozen=True, slots=True)
class LocalTable:
    """The table of one party, in its own process; its features stay in the source and are read in batches.

    `rows` are those it holds, `numeric` and `categorical` its columns. `labels` are `(rows,)` int64 classes, sealed:
    only the party that owns them has them, and its table can no longer be pickled. `held` are the rows of the source
    that it holds, `(rows,)` int64 ascending; `None` where it holds all. `where` names its files in errors.
    """

    shard: Shard
    rows: int
    numeric: tuple[str, ...]
    categorical: tuple[str, ...]
    labels: Sealed[np.ndarray] | None
    held: np.ndarray | None
    where: str = ""

    @property
    def ids(self) -> np.ndarray:
        """`(rows,)` int64: the row of the source or what stands for its key."""
        return load_ids(self.shard) if self.held is None else self.held

    @property
    def pools(self) -> np.ndarray:
        """`(rows,)` int8: 0 train, 1 valid, 2 test; all 0 at a publisher of a keyed source, which aligns to learn."""
        unknown = self.shard.keyed and not self.shard.owns_label
        return np.zeros(self.rows, np.int8) if unknown else load_pools(self.shard)

    @property
    def train_rows(self) -> np.ndarray:
        """Positions, `(m,)` int64, of all training rows this party holds, common or its own."""
        return np.flatnonzero(self.pools == TRAIN)

    @property
    def frame(self) -> pd.DataFrame:
        """All rows at once: `(rows, columns)` raw values in the order numeric, categorical."""
        parts = list(self.batches())
        return parts[0] if len(parts) == 1 else pd.concat(parts, ignore_index=True)

    def batches(self) -> Iterator[pd.DataFrame]:
        """Yield the raw values some rows at a time, in order; each call reads them anew.

        Raises `DataError`, at the latest in the end, for a column without a value and for a source that has changed.
        """
        names, start = [*self.numeric, *self.categorical], 0
        filled = dict.fromkeys(names, False)
        for frame in frames(_table(self.shard), names, _root(self.shard)):
            filled = {name: known or bool(frame[name].notna().any()) for name, known in filled.items()}
            yield frame if self.held is None else _held(frame, self.held, start)
            start += len(frame)
        if self.held is not None or self.shard.owns_label:
            _check_rows(start, self.shard)
        check_filled(filled, start, where=self.where)


def open_source(shard: Shard) -> Source:
    """Build the data set that the shard names; raises `RegistryError` or `ConfigError`."""
    return build("data", shard.source)


def load_ids(shard: Shard) -> np.ndarray:
    """Return `(n,)` int64, unique: what each row this party holds is known by inside the simulation.

    They are rows of the source, ascending, for which no file is read; for a keyed source what stands for each key, in
    the order of the party's own file.
    """
    if not shard.keyed:
        return shard.cut.held_by(shard.party)
    stamps = tuple((file, file.stat().st_mtime_ns) for file in _table(shard).describe(_root(shard)).files)
    return _ids_of_keys(json.dumps(shard.source, sort_keys=True), shard.root, shard.party, stamps)


@lru_cache(maxsize=8)
def _ids_of_keys(source: str, root: str | None, party: PartyId, stamps: tuple[tuple[Path, int], ...]) -> np.ndarray:
    """Return what stands for a party's keys, from memory where its files have not changed; nobody may change it."""
    del stamps
    table = cast(Keyed, build("data", json.loads(source))).of(party)
    return ids_of(table.keys(None if root is None else Path(root)))


def load_keys(shard: Shard) -> Sequence[str]:
    """Return the keys of this party's rows in the order of its file; only a keyed source has them."""
    return cast(Table, _table(shard)).keys(_root(shard))


def load_pools(shard: Shard) -> np.ndarray:
    """Return the `(n,)` int8 pools of the rows that the advertiser holds, in the order of `load_ids`."""
    pools = shard.cut.pools()
    return pools if shard.keyed else pools[load_ids(shard)]


def load_features(shard: Shard) -> LocalTable:
    """Open this party's columns, and read the labels if it owns them, for the rows it holds.

    Raises `DataError` where a column is absent, or the source no longer has the rows it was cut for.
    """
    root, table = _root(shard), _table(shard)
    described = table.describe(root)
    check_columns(shard.columns, described.columns, where=str(shard.source.get("name", "")))
    numeric = tuple(name for name in described.numeric if name in shard.columns)
    categorical = tuple(name for name in described.categorical if name in shard.columns)
    if shard.owns_label or not shard.keyed:
        _check_rows(described.rows, shard)
    held = None if shard.keyed else load_ids(shard)
    rows = described.rows if held is None else len(held)
    labels = None
    if shard.owns_label:
        classes = load_labels(shard)
        labels = Sealed(classes if held is None else classes[held])
    where = ", ".join(map(str, described.files)) or str(shard.source.get("name", ""))
    return LocalTable(shard, rows, numeric, categorical, labels, held, where)


def labels_of(shard: Shard, ids: np.ndarray) -> np.ndarray:
    """Return the `(n,)` int64 classes of the advertiser's rows with these ids; the referee alone calls this."""
    classes = load_labels(shard)
    return classes[places(load_ids(shard), ids)] if shard.keyed else classes[ids]


def load_labels(shard: Shard) -> np.ndarray:
    """Return `(rows,)` int64 classes of all rows of the source; only the advertiser and the referee call this.

    Raises `DataError` for labels that are no classes, are missing, or are all the same.
    """
    root, table = _root(shard), _table(shard)
    labels = table.labels(root)
    check_label(labels, table.describe(root).label, where=str(shard.source.get("name", "")))
    _check_rows(len(labels), shard)
    return labels.astype(np.int64)


def official_test(source: Source, root: Path | None) -> bytes:
    """Return the set's own test rows, packed for `RowCut.test_rows`.

    Raises `ConfigError` for a set that brings none.
    """
    if not source.describe(root).official_test:
        message = f"got official, allowed for sets with test rows of their own, not {type(source).__name__}; use random"
        raise ConfigError(message, key="holdout.by")
    rows: OfficialTest = source  # pyright: ignore[reportAssignmentType] - official_test promises the method
    return pack(rows.test_rows(root))


def _table(shard: Shard) -> Source:
    source = open_source(shard)
    return cast(Keyed, source).of(shard.party, shard.known) if shard.keyed else source


def frames(table: Source, columns: Sequence[str], root: Path | None) -> Iterator[pd.DataFrame]:
    """Yield these columns of a table some rows at a time, where it can be read so, else whole."""
    return table.batches(columns, root) if isinstance(table, Batched) else iter([table.read(columns, root)])


def _held(frame: pd.DataFrame, held: np.ndarray, start: int) -> pd.DataFrame:
    """Return the rows of a batch, the source's from `start` on, that are among those held."""
    first, last = np.searchsorted(held, (start, start + len(frame)))
    return frame.iloc[held[first:last] - start].reset_index(drop=True)


def _root(shard: Shard) -> Path | None:
    return None if shard.root is None else Path(shard.root)


def _check_rows(got: int, shard: Shard) -> None:
    if got != shard.cut.rows:
        message = f"got {got} rows, allowed the {shard.cut.rows} it was cut for; the file changed, start the run again"
        raise DataError(message, where=str(shard.source.get("name", "")))
