"""Load what one party holds from the reference it was given: its own rows, its own columns, labels if it owns them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from vfl.data import Source
from vfl.data.checks import check_columns, check_frame, check_label
from vfl.data.cut import TRAIN, OfficialTest, RowCut, Shard, pack
from vfl.errors import ConfigError, DataError
from vfl.registry import build
from vfl.sealed import Sealed

__all__ = ["LocalFrame", "RowCut", "Shard", "load_features", "load_ids", "official_test", "open_source", "pack"]


@dataclass(frozen=True, slots=True)
class LocalFrame:
    """The table of one party, in its own process.

    `ids` are `(n,)` int64 rows of the source and `pools` their `(n,)` int8 pools (0 train, 1 valid, 2 test); `frame`
    holds `(n, columns)` raw values in the order numeric, categorical. `labels` are `(n,)` int64 classes, sealed:
    only the party that owns them has them, and its table can no longer be pickled.
    """

    ids: np.ndarray
    pools: np.ndarray
    frame: pd.DataFrame
    numeric: tuple[str, ...]
    categorical: tuple[str, ...]
    labels: Sealed[np.ndarray] | None = None

    @property
    def train_rows(self) -> np.ndarray:
        """Positions in `frame`, `(m,)` int64, of all training rows this party holds, common or its own."""
        return np.flatnonzero(self.pools == TRAIN)


def open_source(shard: Shard) -> Source:
    """Build the data set that the shard names; raises `RegistryError` or `ConfigError`."""
    return build("data", shard.source)


def load_ids(shard: Shard) -> np.ndarray:
    """Return `(n,)` int64, ascending: the rows of the source this party holds. Reads no file."""
    return shard.cut.held_by(shard.party)


def load_features(shard: Shard) -> LocalFrame:
    """Read this party's columns, and the labels if it owns them, for the rows it holds.

    Raises `DataError` where a column is absent or empty, or the source no longer has the rows it was cut for.
    """
    root = None if shard.root is None else Path(shard.root)
    source = open_source(shard)
    described = source.describe(root)
    check_columns(shard.columns, described.columns, where=str(shard.source.get("name", "")))
    numeric = tuple(name for name in described.numeric if name in shard.columns)
    categorical = tuple(name for name in described.categorical if name in shard.columns)
    frame = source.read([*numeric, *categorical], root)
    _check_rows(len(frame), shard)
    check_frame(frame, where=str(shard.source.get("name", "")))
    ids = load_ids(shard)
    labels = None
    if shard.owns_label:
        classes = load_labels(shard)
        labels = Sealed(classes[ids])
    held = frame.iloc[ids].reset_index(drop=True)
    return LocalFrame(ids, shard.cut.pools()[ids], held, numeric, categorical, labels)


def load_labels(shard: Shard) -> np.ndarray:
    """Return `(rows,)` int64 classes of all rows of the source; only the advertiser and the referee call this.

    Raises `DataError` for labels that are no classes, are missing, or are all the same.
    """
    root = None if shard.root is None else Path(shard.root)
    source = open_source(shard)
    labels = source.labels(root)
    check_label(labels, source.describe(root).label, where=str(shard.source.get("name", "")))
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


def _check_rows(got: int, shard: Shard) -> None:
    if got != shard.cut.rows:
        message = f"got {got} rows, allowed the {shard.cut.rows} it was cut for; the file changed, start the run again"
        raise DataError(message, where=str(shard.source.get("name", "")))
