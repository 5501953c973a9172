"""Data sets: one file each. A source describes its table, then reads only the columns it is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd

from vfl.types import PartyId


@dataclass(frozen=True, slots=True)
class Described:
    """A table as it is before anyone cuts it: everything but the values.

    `split` is the set's own vertical cut, party to columns. `classes` names the label's classes in the order of their
    ids; where there are two, class 1 is the positive one. `official_test`: it brings its own test rows.
    `times` are columns that only order rows in time: readable for a time-ordered holdout, no features. `held` counts
    the rows of each party's own table where parties bring different rows; `rows` are then the advertiser's. `notes`
    say what was done to the table on reading, and `files` are what was read.
    """

    rows: int
    numeric: tuple[str, ...]
    categorical: tuple[str, ...]
    label: str
    classes: tuple[str, ...]
    split: Mapping[str, tuple[str, ...]]
    synthetic: bool = False
    official_test: bool = False
    times: tuple[str, ...] = ()
    held: Mapping[PartyId, int] = field(default_factory=dict[PartyId, int])
    notes: tuple[str, ...] = ()
    files: tuple[Path, ...] = field(default=(), repr=False, compare=False)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of all feature columns, numeric first."""
        return self.numeric + self.categorical


class Source(Protocol):
    """A data set: a frozen dataclass of options. `root` is the folder of data files, for sets that are not embedded.

    Raises `DataError`, naming file and column, where a file is absent or cannot be used.
    """

    def describe(self, root: Path | None) -> Described:
        """Return what the table holds, reading as little as possible."""
        ...

    def read(self, columns: Sequence[str], root: Path | None) -> pd.DataFrame:
        """Return these columns for all rows: float for numeric ones, strings for categorical, NaN where missing."""
        ...

    def labels(self, root: Path | None) -> np.ndarray:
        """Return the `(rows,)` int64 class ids; only the advertiser and the referee call this."""
        ...


@runtime_checkable
class Batched(Protocol):
    """What a data set, or a party's table of one, offers besides that whose rows need not be in memory at once."""

    def batches(self, columns: Sequence[str], root: Path | None) -> Iterator[pd.DataFrame]:
        """Yield what `read` returns, some rows at a time, in order; raises `DataError` on the way as `read` does."""
        ...


class Table(Source, Protocol):
    """One party's own table of a `Keyed` source: its columns, its rows, and what its rows are joined on."""

    def keys(self, root: Path | None) -> Sequence[str]:
        """Return the key of each row, `n` different texts: what the parties' rows are joined on."""
        ...


@runtime_checkable
class Keyed(Protocol):
    """What a data set offers besides `Source` where each party has rows of its own, found again by key.

    `describe` then tells of the whole (rows are the advertiser's, the split its parties), and parties read only `of`.
    """

    def of(self, party: PartyId, known: Described | None = None) -> Table:
        """Return a party's own table; only the advertiser's has labels.

        `known` is what `describe` found of it before, so that its files are not gone through for that once more.
        """
        ...


@runtime_checkable
class Located(Protocol):
    """What a data set offers whose options name files: the same options from wherever a party is started."""

    def located(self, root: Path | None) -> Mapping[str, Any]:
        """Return the options with absolute paths; raises `DataError` for a file that is absent."""
        ...
