"""Data sets whose files are one table: where a person puts them, and what their columns are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from vfl.data import Described
from vfl.data.checks import check_columns, check_label
from vfl.data.tables import as_numbers, as_texts, batches, column, header, load, rows
from vfl.errors import DataError
from vfl.types import PartyId

Derive = Callable[[pd.DataFrame], pd.DataFrame]


def same(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a table as it is: the layout derives no column."""
    return frame


@dataclass(frozen=True, slots=True)
class Place:
    """Where the files of a data set are looked for: folders of the data root, and in one of them file names.

    Both are patterns, tried in order; `origin` says which file it is and where it comes from.
    """

    folders: tuple[str, ...]
    names: tuple[str, ...]
    origin: str

    def find(self, root: Path | None, *, required: bool = True) -> list[Path]:
        """Return the files that the first fitting pattern finds, sorted; raises `DataError` where there is none."""
        for folder in self.folders:
            for name in self.names:
                found = sorted(path for path in root.glob(f"{folder}/{name}") if path.is_file()) if root else []
                if found:
                    return found
        if required:
            raise absent(self, root)
        return []


def absent(place: Place, root: Path | None) -> DataError:
    """Return the error that says which file goes where."""
    target = f"{root or 'FOLDER'}/{place.folders[0].rstrip('*')}"
    setting = "" if root else ", and set data.root or VFL_DATA to FOLDER"
    return DataError(f"no data file; put {place.origin} into {target}{setting}", where=place.folders[0].rstrip("*"))


@dataclass(frozen=True)
class TableLayout:
    """A table in one file, or one of training and one of test rows, as its authors publish it.

    `aliases` are other names of columns in some editions of the file; `names` the columns of a file without a header.
    `derive` makes columns from the raw ones in `raw`, text as it stands. Class 1 is the label's `positive` text.
    """

    train: Place
    label: str
    numeric: tuple[str, ...]
    categorical: tuple[str, ...]
    split: Mapping[PartyId, tuple[str, ...]]
    positive: str = "1"
    classes: tuple[str, str] = ("0", "1")
    times: tuple[str, ...] = ()
    test: Place | None = None
    aliases: Mapping[str, str] = field(default_factory=dict[str, str])
    names: tuple[str, ...] = ()
    raw: Mapping[str, str] = field(default_factory=dict[str, str])
    derive: Derive = same

    def describe(self, root: Path | None) -> Described:
        """Return the table's shape; counts the rows of its files."""
        files = self.files(root)
        times = tuple(name for name in self.times if all(self._raw(name, file) in self._header(file) for file in files))
        return Described(
            rows=sum(_rows(file, self._headless(file), file.stat().st_mtime_ns) for file in files),
            numeric=self.numeric,
            categorical=self.categorical,
            label=self.label,
            classes=self.classes,
            split=self.split,
            official_test=len(files) > 1,
            times=times,
            files=files,
        )

    def read(self, columns: Sequence[str], root: Path | None) -> pd.DataFrame:
        """Return these columns for all rows, training rows first; raises `DataError` naming file, column and row."""
        parts = list(self.batches(columns, root))
        return pd.concat(parts, ignore_index=True) if len(parts) > 1 else parts[0]

    def batches(self, columns: Sequence[str], root: Path | None) -> Iterator[pd.DataFrame]:
        """Yield what `read` returns, some rows at a time."""
        check_columns(columns, (*self.numeric, *self.categorical, *self.times), where=self.label)
        for file in self.files(root):
            yield from self._read(file, columns)

    def labels(self, root: Path | None) -> np.ndarray:
        """Return the `(rows,)` int64 class ids."""
        parts: list[np.ndarray] = []
        for file in self.files(root):
            values = as_texts(load(file, [self._raw(self.label, file)], self._headless(file)).iloc[:, 0])
            check_label(values, self.label, where=str(file))
            parts.append((values == self.positive).to_numpy(np.int64))
        return np.concatenate(parts)

    def test_rows(self, root: Path | None) -> np.ndarray:
        """Return `(rows,)` bool: the rows of the test file."""
        files = self.files(root)
        counts = [_rows(file, self._headless(file), file.stat().st_mtime_ns) for file in files]
        return np.arange(sum(counts)) >= counts[0]

    def files(self, root: Path | None) -> tuple[Path, ...]:
        """Return the training file and, where it is there, the test file."""
        found = self.train.find(root)[:1]
        return (*found, *(self.test.find(root, required=False)[:1] if self.test else []))

    def _read(self, file: Path, columns: Sequence[str]) -> Iterator[pd.DataFrame]:
        sources, start = {name: self._raw(self.raw.get(name, name), file) for name in columns}, 0
        for raw in batches(file, list(dict.fromkeys(sources.values())), self._headless(file)):
            frame = self.derive(pd.DataFrame({name: raw[source] for name, source in sources.items()}, index=raw.index))
            typed = {
                name: as_numbers(column(frame, name), name, str(file), start)
                if name in self.numeric
                else as_texts(column(frame, name))
                for name in columns
            }
            yield pd.DataFrame(typed, index=raw.index)
            start += len(raw)

    def _raw(self, name: str, file: Path) -> str:
        return self.aliases[name] if name in self.aliases and self.aliases[name] in self._header(file) else name

    def _header(self, file: Path) -> tuple[str, ...]:
        return self._headless(file) or header(file)

    def _headless(self, file: Path) -> tuple[str, ...]:
        return self.names if self.names and not _has_header(file, file.stat().st_mtime_ns, self.names[0]) else ()


@lru_cache(maxsize=64)
def _rows(file: Path, names: tuple[str, ...], stamp: int) -> int:
    del stamp
    return rows(file, names or None)


@lru_cache(maxsize=64)
def _has_header(file: Path, stamp: int, first: str) -> bool:
    del stamp
    try:
        return first in header(file)
    except DataError:
        return False
