"""Bring your own data: one file a party, joined by a key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NoReturn

import numpy as np
import pandas as pd

from vfl.data import Described
from vfl.data.checks import check_columns, check_label
from vfl.data.keys import PackedKeys
from vfl.data.tables import Seen, as_numbers, as_texts, batches, column, header, parsed, stamp_of
from vfl.errors import DataError
from vfl.types import ADVERTISER, REFEREE, PartyId

ColumnType = Literal["numeric", "categorical"]
Duplicates = Literal["error", "first", "last"]
PUBLISHER: PartyId = "publisher"


@dataclass(frozen=True)
class Csv:
    """Your own tables, one file a party, whose rows are joined by a key and only partly overlap.

    Files are CSV or TSV (UTF-8, also gzipped; a byte order mark is dropped at the start and refused elsewhere), parquet
    or Arrow. `publisher` is one file, or a file for each publisher by its party id; relative paths are looked up where
    the command runs, then in `data.root`. `key` is the column that rows are joined on, compared as text; `label` the
    advertiser's class column, its values sorted, so that of two classes the larger is the positive one. Every other
    column is a feature.

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

    def of(self, party: PartyId, known: Described | None = None) -> CsvTable:
        """Return a party's own table."""
        files = {**self._files(), ADVERTISER: self.advertiser}
        types: dict[str, ColumnType] = {name: kind for name, kind in self.types.items() if "." not in name}
        for name, kind in self.types.items():
            if name.startswith(f"{party}."):
                types[name.removeprefix(f"{party}.")] = kind
        return CsvTable(files[party], self.key, self.label, party == ADVERTISER, self.duplicates, types, known)

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
    """One party's file. `owns_label` is set for the advertiser's; any other file must not hold the label's column.

    `known` is what was found of the file before; without it the file is gone through, once in each process.
    """

    file: str
    key: str
    label: str
    owns_label: bool
    duplicates: Duplicates
    types: Mapping[str, ColumnType]
    known: Described | None = None

    def describe(self, root: Path | None) -> Described:
        """Return columns by type, rows and, where it owns the label, its classes; raises `DataError`."""
        if self.known is not None:
            return self.known
        path = resolve(self.file, root)
        return _describe(self, path, (*stamp_of(path), tuple(sorted(self.types.items()))))

    def read(self, columns: Sequence[str], root: Path | None) -> pd.DataFrame:
        """Return these columns of this party's rows: float64 if numeric, text if categorical, NaN where missing."""
        parts = list(self.batches(columns, root))
        return parts[0] if len(parts) == 1 else pd.concat(parts, ignore_index=True)

    def batches(self, columns: Sequence[str], root: Path | None) -> Iterator[pd.DataFrame]:
        """Yield what `read` returns, some rows at a time."""
        path, described = resolve(self.file, root), self.describe(root)
        check_columns(columns, described.columns, where=str(path))
        kept, start = self._kept(path), 0
        for raw in batches(path, columns):
            found = {
                name: as_numbers(column(raw, name), name, str(path), start)
                if name in described.numeric
                else as_texts(column(raw, name))
                for name in columns
            }
            rows = kept.among(start, start + len(raw))
            yield pd.DataFrame(found, index=range(len(raw))).iloc[rows].reset_index(drop=True)
            start += len(raw)

    def labels(self, root: Path | None) -> np.ndarray:
        """Return the `(rows,)` int64 class ids."""
        path = resolve(self.file, root)
        codes, words = _labels(path, self.label)
        ids = pd.Index(self.describe(root).classes).get_indexer(pd.Index(words)).astype(np.int64)
        if (ids < 0).any():
            got = f"got the label {words[int(np.argmin(ids))]!r}, which was not there when the run began"
            raise DataError(f"{got}; the file changed, start the run again", key=self.label, where=str(path))
        return ids[codes[self._kept(path).among(0, len(codes))]]

    def keys(self, root: Path | None) -> PackedKeys:
        """Return each row's key."""
        path = resolve(self.file, root)
        keys, kept = _keys(path, self.key), self._kept(path)
        return keys if kept.rows is None else keys.at(kept.rows)

    def _kept(self, path: Path) -> Kept:
        return _kept(path, stamp_of(path), self.key, self.duplicates)

    def described(self, path: Path) -> Described:
        """Return what `describe` does, by reading the file."""
        names = header(path)
        check_columns([self.key, *([self.label] if self.owns_label else [])], names, where=str(path))
        if not self.owns_label and self.label in names:
            message = "got the label in a publisher's file, allowed in the advertiser's only; remove or rename it"
            raise DataError(message, key=self.label, where=str(path))
        features = [name for name in names if name not in (self.key, self.label)]
        kept = self._kept(path)
        numeric = self._numeric(path, features)
        dropped = kept.total - kept.count
        notes = (f"{path.name}: {dropped} of {kept.total} rows repeat a key and were left out",) if dropped else ()
        return Described(
            rows=kept.count,
            numeric=tuple(numeric),
            categorical=tuple(name for name in features if name not in numeric),
            label=self.label if self.owns_label else "",
            classes=tuple(_classes(_labels(path, self.label)[1])) if self.owns_label else (),
            split={},
            notes=notes,
            files=(path,),
        )

    def _numeric(self, path: Path, features: Sequence[str]) -> list[str]:
        """Return which features hold numbers, in one pass over the file."""
        seen = {name: Seen() for name in features}
        for frame in batches(path, features):
            for name, each in seen.items():
                each.add(column(frame, name))
        numeric: list[str] = []
        for name, each in seen.items():
            if not each.there:
                message = f"got no value in {each.rows} rows, allowed at least one; remove the column"
                raise DataError(message, key=name, where=str(path))
            if each.numeric if name not in self.types else self.types[name] == "numeric":
                each.require_numbers(name, str(path))
                numeric.append(name)
        return numeric


@dataclass(frozen=True, slots=True)
class Kept:
    """Which rows of a file are used: `rows`, ascending, or all of the `total` where that is `None`."""

    total: int
    rows: np.ndarray | None = None

    @property
    def count(self) -> int:
        """How many rows are used."""
        return self.total if self.rows is None else len(self.rows)

    def among(self, start: int, stop: int) -> np.ndarray:
        """Return the places of the used rows among the file's rows from `start` to before `stop`."""
        if self.rows is None:
            return np.arange(stop - start)
        first, last = np.searchsorted(self.rows, (start, stop))
        return self.rows[first:last] - start


@lru_cache(maxsize=32)
def _cached(path: Path, spec: tuple[Any, ...], stamp: tuple[Any, ...]) -> Described:
    del stamp
    file, key, label, owns_label, duplicates, types = spec
    return CsvTable(file, key, label, owns_label, duplicates, dict(types)).described(path)


def _describe(table: CsvTable, path: Path, stamp: tuple[Any, ...]) -> Described:
    """Describe a file, from memory where it has not changed; what is kept holds no value of it but the class names."""
    types = tuple(sorted(table.types.items()))
    return _cached(path, (table.file, table.key, table.label, table.owns_label, table.duplicates, types), stamp)


@lru_cache(maxsize=8)
def _kept(path: Path, stamp: tuple[int, int], key: str, duplicates: Duplicates) -> Kept:
    """Return the rows that `duplicates` leaves, from memory where the file has not changed: row numbers, no value."""
    del stamp
    keys = _keys(path, key)
    if keys.distinct():
        return Kept(len(keys))
    codes = pd.Series(keys.codes())
    if duplicates == "error":
        _refuse_duplicates(keys, codes, key, path, "remove {} rows, or set data.duplicates=first or last")
    return Kept(len(keys), np.flatnonzero(~codes.duplicated(keep=duplicates).to_numpy()))


def resolve(file: str, root: Path | None) -> Path:
    """Return a file's absolute path: where the command runs, else in the folder of data files."""
    places = [Path(file), *([root / file] if root else [])]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        looked = " and ".join(str(place.absolute().parent) for place in places)
        raise DataError(f"no such file, looked in {looked}; check the path", where=file)
    return found.absolute()


def read_keys(path: Path, key: str) -> PackedKeys:
    """Return the keys of a file's rows, as a run with `duplicates: error` reads them; raises what that raises."""
    check_columns([key], header(path), where=str(path))
    keys = _keys(path, key)
    if not keys.distinct():
        _refuse_duplicates(keys, pd.Series(keys.codes()), key, path, "remove {} rows")
    return keys


def _keys(path: Path, key: str) -> PackedKeys:
    parts, missing, rows = list[pd.Series](), np.empty(0, np.int64), 0
    for frame in batches(path, [key]):
        keys = as_texts(column(frame, key)).str.strip()
        found = np.flatnonzero((keys.isna() | (keys == "")).to_numpy())
        parts.append(keys)
        missing, rows = np.append(missing, found + rows), rows + len(frame)
    if missing.size:
        message = f"got no key in row {missing[0] + 1}, allowed a key in each row; remove {missing.size} such rows"
        raise DataError(message, key=key, where=str(path))
    if not rows:
        raise DataError("got 0 rows, allowed one or more; check how it was written", where=str(path))
    return PackedKeys(parts)


def _refuse_duplicates(keys: PackedKeys, codes: pd.Series, key: str, path: Path, advice: str) -> NoReturn:
    again = np.flatnonzero(codes.duplicated().to_numpy())
    first, second = np.flatnonzero((codes == codes.iloc[again[0]]).to_numpy())[:2]
    got = f"got {keys[int(first)]!r} in rows {first + 1} and {second + 1}, allowed each key once"
    raise DataError(f"{got}; {advice.format(again.size)}", key=key, where=str(path))


def _labels(path: Path, label: str) -> tuple[np.ndarray, list[str]]:
    """Return each row's place, `(rows,)` int32, in a list of label texts; numbers are written alike."""
    known: dict[str, int] = {}
    parts, first, missing, rows = [np.empty(0, np.int32)], 0, 0, 0
    for frame in batches(path, [label]):
        codes, words = pd.factorize(as_texts(column(frame, label)))
        places = np.array([known.setdefault(str(word), len(known)) for word in words], np.int32)
        if (codes < 0).any():
            first = first if missing else rows + int(np.argmax(codes < 0)) + 1
            missing += int((codes < 0).sum())
        parts.append(places[codes] if len(places) else np.zeros(0, np.int32))
        rows += len(frame)
    if missing:
        got = f"got no label in row {first} and {missing} of {rows} rows in all"
        raise DataError(f"{got}, allowed a label in each row; fill it in or remove them", key=label, where=str(path))
    values = pd.Series(list(known), dtype="str")
    numbers = parsed(values)
    written = as_texts(numbers) if bool(numbers.notna().all()) else values.str.strip()
    check_label(numbers if bool(numbers.notna().all()) else written, label, where=str(path))
    return np.concatenate(parts), [str(value) for value in written]


def _classes(labels: Sequence[str]) -> list[str]:
    distinct = list(dict.fromkeys(labels))
    numbers = parsed(pd.Series(distinct))
    return sorted(distinct, key=float) if bool(numbers.notna().all()) else sorted(distinct)
