"""Bring your own data: one file a party, joined by a key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from vfl.data import Described
from vfl.data.checks import check_columns, check_label
from vfl.data.tables import as_numbers, as_texts, column, header, is_numeric, load, parsed
from vfl.errors import DataError
from vfl.types import ADVERTISER, REFEREE, PartyId

ColumnType = Literal["numeric", "categorical"]
Duplicates = Literal["error", "first", "last"]
PUBLISHER: PartyId = "publisher"


@dataclass(frozen=True)
class Csv:
    """Your own tables, one file a party, whose rows are joined by a key and only partly overlap.

    Files are CSV or TSV (UTF-8, a byte order mark is dropped; also gzipped), parquet or Arrow. `publisher` is one file,
    or a file for each publisher by its party id; relative paths are looked up where the command runs, then in
    `data.root`. `key` is the column that rows are joined on, compared as text; `label` the advertiser's class column,
    its values sorted, so that of two classes the larger is the positive one. Every other column is a feature.

    A text column is numeric where at least 90 % of its values are numbers without leading zeros; a value there that is
    no number is refused. `types` overrides it, by column or by `PARTY.COLUMN`. Cells that are empty or say NA, N/A,
    NaN, null or None are missing values: the training mean of a numeric column, an id of its own in a categorical one.
    `duplicates` says what happens to a key that a file holds twice: `error` refuses, `first` and `last` keep one row.

    Pools for validation and testing are dealt over the advertiser's rows, so a share of the rows that are found shared.
    Rows that not all parties hold are training rows of those that do.
    """

    publisher: str | Mapping[PartyId, str]
    advertiser: str
    key: str
    label: str
    duplicates: Duplicates = "error"
    types: Mapping[str, ColumnType] = field(default_factory=dict[str, ColumnType])

    def __post_init__(self) -> None:
        taken = [party for party in self._files() if party in (ADVERTISER, REFEREE) or not party.isidentifier()]
        if taken or not self._files():
            raise ValueError("allowed one file, or files by party ids of letters, digits and _; rename the publisher")
        if self.key == self.label:
            raise ValueError("allowed two different columns as key and label; name both")

    def describe(self, root: Path | None) -> Described:
        """Return the whole: the advertiser's rows and classes, and every party's columns and rows.

        Raises `DataError` naming file, column and row for what cannot be used.
        """
        tables = {party: self.of(party) for party in (*self._files(), ADVERTISER)}
        found = {party: table.describe(root) for party, table in tables.items()}
        own = found[ADVERTISER]
        self._check_types(found)
        numeric = dict.fromkeys(name for each in found.values() for name in each.numeric)
        categorical = dict.fromkeys(name for each in found.values() for name in each.categorical if name not in numeric)
        return Described(
            rows=own.rows,
            numeric=tuple(numeric),
            categorical=tuple(categorical),
            label=self.label,
            classes=own.classes,
            split={party: each.columns for party, each in found.items()},
            held={party: each.rows for party, each in found.items()},
            notes=tuple(note for each in found.values() for note in each.notes),
            files=tuple(file for each in found.values() for file in each.files),
        )

    def read(self, columns: Sequence[str], root: Path | None) -> pd.DataFrame:
        """Return these columns of the advertiser's table; the publishers' are read by `of`."""
        return self.of(ADVERTISER).read(columns, root)

    def labels(self, root: Path | None) -> np.ndarray:
        """Return the `(rows,)` int64 class ids of the advertiser's rows."""
        return self.of(ADVERTISER).labels(root)

    def of(self, party: PartyId) -> CsvTable:
        """Return a party's own table."""
        files = {**self._files(), ADVERTISER: self.advertiser}
        types: dict[str, ColumnType] = {name: kind for name, kind in self.types.items() if "." not in name}
        for name, kind in self.types.items():
            if name.startswith(f"{party}."):
                types[name.removeprefix(f"{party}.")] = kind
        return CsvTable(files[party], self.key, self.label, party == ADVERTISER, self.duplicates, types)

    def located(self, root: Path | None) -> Mapping[str, Any]:
        """Return the options with absolute paths."""
        files = {party: str(resolve(path, root)) for party, path in self._files().items()}
        publisher = files[PUBLISHER] if isinstance(self.publisher, str) else files
        return {**asdict(self), "publisher": publisher, "advertiser": str(resolve(self.advertiser, root))}

    def _files(self) -> Mapping[PartyId, str]:
        return {PUBLISHER: self.publisher} if isinstance(self.publisher, str) else self.publisher

    def _check_types(self, found: Mapping[PartyId, Described]) -> None:
        known = {name for each in found.values() for name in each.columns}
        known |= {f"{party}.{name}" for party, each in found.items() for name in each.columns}
        check_columns(list(self.types), known, where="data.types")


@dataclass(frozen=True)
class CsvTable:
    """One party's file. `owns_label` is set for the advertiser's; any other file must not hold the label's column."""

    file: str
    key: str
    label: str
    owns_label: bool
    duplicates: Duplicates
    types: Mapping[str, ColumnType]

    def describe(self, root: Path | None) -> Described:
        """Return columns by type, rows and, where it owns the label, its classes; raises `DataError`."""
        path = resolve(self.file, root)
        stamp = path.stat()
        return _describe(self, path, (stamp.st_mtime_ns, stamp.st_size, tuple(sorted(self.types.items()))))

    def read(self, columns: Sequence[str], root: Path | None) -> pd.DataFrame:
        """Return these columns of this party's rows: float64 if numeric, text if categorical, NaN where missing."""
        path, described = resolve(self.file, root), self.describe(root)
        check_columns(columns, described.columns, where=str(path))
        raw = load(path, columns)
        found = {
            name: as_numbers(column(raw, name), name, str(path))
            if name in described.numeric
            else as_texts(column(raw, name))
            for name in columns
        }
        kept = self._kept(path)
        return pd.DataFrame(found, index=range(len(raw))).iloc[kept].reset_index(drop=True)

    def labels(self, root: Path | None) -> np.ndarray:
        """Return the `(rows,)` int64 class ids."""
        path = resolve(self.file, root)
        texts = _labels(path, self.label).iloc[self._kept(path)]
        classes = self.describe(root).classes
        return pd.Index(classes).get_indexer(pd.Index(texts)).astype(np.int64)

    def keys(self, root: Path | None) -> list[str]:
        """Return each row's key."""
        path = resolve(self.file, root)
        return _keys(path, self.key).iloc[self._kept(path)].tolist()

    def _kept(self, path: Path) -> np.ndarray:
        keys = _keys(path, self.key)
        if self.duplicates == "error":
            _refuse_duplicates(keys, self.key, path)
            return np.arange(len(keys))
        return np.flatnonzero(~keys.duplicated(keep=self.duplicates).to_numpy())

    def described(self, path: Path) -> Described:
        """Return what `describe` does, by reading the file."""
        names = header(path)
        check_columns([self.key, *([self.label] if self.owns_label else [])], names, where=str(path))
        if not self.owns_label and self.label in names:
            message = "got the label in a publisher's file, allowed in the advertiser's only; remove or rename it"
            raise DataError(message, key=self.label, where=str(path))
        features = [name for name in names if name not in (self.key, self.label)]
        kept, total = self._kept(path), len(_keys(path, self.key))
        numeric = [name for name in features if self._is_numeric(path, name)]
        dropped = total - len(kept)
        notes = (f"{path.name}: {dropped} of {total} rows repeat a key and were left out",) if dropped else ()
        return Described(
            rows=len(kept),
            numeric=tuple(numeric),
            categorical=tuple(name for name in features if name not in numeric),
            label=self.label if self.owns_label else "",
            classes=tuple(_classes(_labels(path, self.label))) if self.owns_label else (),
            split={},
            notes=notes,
            files=(path,),
        )

    def _is_numeric(self, path: Path, name: str) -> bool:
        values = column(load(path, [name]), name)
        if bool(values.isna().all()):
            message = f"got no value in {len(values)} rows, allowed at least one; remove the column"
            raise DataError(message, key=name, where=str(path))
        numeric = is_numeric(values) if name not in self.types else self.types[name] == "numeric"
        if numeric:
            as_numbers(values, name, str(path))
        return numeric


@lru_cache(maxsize=32)
def _cached(path: Path, spec: tuple[Any, ...], stamp: tuple[Any, ...]) -> Described:
    del stamp
    file, key, label, owns_label, duplicates, types = spec
    return CsvTable(file, key, label, owns_label, duplicates, dict(types)).described(path)


def _describe(table: CsvTable, path: Path, stamp: tuple[Any, ...]) -> Described:
    """Describe a file, from memory where it has not changed; what is kept holds no value of it but the class names."""
    types = tuple(sorted(table.types.items()))
    return _cached(path, (table.file, table.key, table.label, table.owns_label, table.duplicates, types), stamp)


def resolve(file: str, root: Path | None) -> Path:
    """Return a file's absolute path: where the command runs, else in the folder of data files."""
    places = [Path(file), *([root / file] if root else [])]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        looked = " and ".join(str(place.absolute().parent) for place in places)
        raise DataError(f"no such file, looked in {looked}; check the path", where=file)
    return found.absolute()


def _keys(path: Path, key: str) -> pd.Series:
    keys = as_texts(column(load(path, [key]), key)).str.strip()
    missing = np.flatnonzero((keys.isna() | (keys == "")).to_numpy())
    if missing.size:
        message = f"got no key in row {missing[0] + 1}, allowed a key in each row; remove {missing.size} such rows"
        raise DataError(message, key=key, where=str(path))
    if keys.empty:
        raise DataError("got 0 rows, allowed one or more; check how it was written", where=str(path))
    return keys


def _refuse_duplicates(keys: pd.Series, key: str, path: Path) -> None:
    twice = np.flatnonzero(keys.duplicated().to_numpy())
    if twice.size:
        value = keys.iloc[twice[0]]
        first, second = np.flatnonzero((keys == value).to_numpy())[:2] + 1
        got = f"got {value!r} in rows {first} and {second}, allowed each key once"
        advice = f"remove {twice.size} rows, or set data.duplicates=first or last"
        raise DataError(f"{got}; {advice}", key=key, where=str(path))


def _labels(path: Path, label: str) -> pd.Series:
    values = as_texts(column(load(path, [label]), label))
    missing = np.flatnonzero(values.isna().to_numpy())
    if missing.size:
        got = f"got no label in row {missing[0] + 1} and {missing.size} of {len(values)} rows in all"
        raise DataError(f"{got}, allowed a label in each row; fill it in or remove them", key=label, where=str(path))
    numbers = parsed(values)
    whole = as_texts(numbers) if bool(numbers.notna().all()) else values.str.strip()
    check_label(numbers if bool(numbers.notna().all()) else whole, label, where=str(path))
    return whole


def _classes(labels: pd.Series) -> list[str]:
    distinct = [str(value) for value in labels.unique()]
    numbers = parsed(pd.Series(distinct))
    return sorted(distinct, key=float) if bool(numbers.notna().all()) else sorted(distinct)
