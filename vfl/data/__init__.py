"""Data sets: one file each. A source describes its table, then reads only the columns it is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd


@dataclass(frozen=True, slots=True)
class Described:
    """A table as it is before anyone cuts it: everything but the values.

    `split` is the set's own vertical cut, party to columns. `classes` names the label's classes in the order of their
    ids; where there are two, class 1 is the positive one. `official_test`: it brings its own test rows.
    """

    rows: int
    numeric: tuple[str, ...]
    categorical: tuple[str, ...]
    label: str
    classes: tuple[str, ...]
    split: Mapping[str, tuple[str, ...]]
    synthetic: bool = False
    official_test: bool = False

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
