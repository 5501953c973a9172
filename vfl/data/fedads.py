"""FedAds: conversions after a click, in the layout its authors publish."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from vfl.data import Described
from vfl.data.checks import check_columns
from vfl.data.keys import PackedKeys
from vfl.data.layout import Place
from vfl.data.tables import batches, column, rows, stamp_of
from vfl.errors import DataError
from vfl.types import ADVERTISER, PartyId

SHARED = "l_u_fea_1"
ADVERTISER_COLUMNS = (*(f"l_i_fea_{place}" for place in range(1, 11)), *(f"l_u_fea_{place}" for place in range(1, 7)))
PUBLISHER_COLUMNS = (SHARED, "f_u_fea_1", "f_u_fea_2", "f_uc_fea_1", "f_uc_fea_2", "l_c_fea", "f_c")
KEY, LABEL = "sample_id", "label"
ORIGIN = "of https://tianchi.aliyun.com/dataset/148347"
ALIGNED = Place(("fedads*",), ("sample_train_aligned.*",), f"sample_train_aligned.tar.gz {ORIGIN}")
ALONE = Place(
    ("fedads*",),
    ("sample_train_nonaligned.*", "sample_train_unaligned.*"),
    f"sample_train_nonaligned.tar.gz {ORIGIN}",
)
TEST = Place(("fedads*",), ("sample_test.*", "test.csv*"), f"sample_test.tar.gz {ORIGIN}")


@dataclass(frozen=True, slots=True)
class Fedads:
    """FedAds: clicks on Alibaba's advertisements, about 0.6 % of which lead to a purchase within a day.

    The advertiser (the paper's label party) holds 16 columns and the label; the publisher (the non-label party) holds
    seven: the context column `l_c_fea` is its own whatever its prefix says, and `l_u_fea_1` both hold. Every column is
    categorical. Rows are joined on `sample_id`: those of the aligned and the test file both parties hold, those of
    the nonaligned file only the advertiser, with labels. The test file is the official holdout.

    Files are .csv, .csv.gz or .tar.gz with one in it; each cell is written as a list of one text, and an empty one is
    missing. The official files repeat ids (83,263 rows of the aligned file, 1,523 of the test file, by one
    re-implementation's count); `duplicates` keeps the first or the last of them in the order aligned, nonaligned, test,
    and `vfl data describe` counts them file by file.

    Licence: CC BY-NC-SA 4.0. The owners of the columns are those of the official table (alibaba/Elastic-Federated-
    Learning-Solution, branch FedAds, docs/efls-dataset); the stringified cells are second-hand.

    Reference: Penghui Wei, Hongjian Dou, Shaoguo Liu, Rongjun Tang, Li Liu, Liang Wang, Bo Zheng, FedAds: A Benchmark
    for Privacy-Preserving CVR Estimation with Vertical Federated Learning, SIGIR 2023,
    https://arxiv.org/abs/2305.08328
    """

    duplicates: Literal["first", "last"] = "first"

    def describe(self, root: Path | None) -> Described:
        """Return the whole; its rows are the advertiser's."""
        own, theirs = (self.of(party).describe(root) for party in (ADVERTISER, "publisher"))
        columns = dict.fromkeys((*own.categorical, *theirs.categorical))
        return Described(
            rows=own.rows,
            numeric=(),
            categorical=tuple(columns),
            label=LABEL,
            classes=own.classes,
            split={"publisher": PUBLISHER_COLUMNS, "advertiser": ADVERTISER_COLUMNS},
            official_test=True,
            held={"publisher": theirs.rows, "advertiser": own.rows},
            notes=own.notes,
            files=own.files,
        )

    def read(self, columns: Sequence[str], root: Path | None) -> pd.DataFrame:
        """Return these columns of the advertiser's rows."""
        return self.of(ADVERTISER).read(columns, root)

    def labels(self, root: Path | None) -> np.ndarray:
        """Return `(rows,)` int64: 1 where the click led to a purchase."""
        return self.of(ADVERTISER).labels(root)

    def test_rows(self, root: Path | None) -> np.ndarray:
        """Return `(rows,)` bool: the advertiser's rows that come from the test file."""
        return self.of(ADVERTISER).sources(root) == "test"

    def of(self, party: PartyId, known: Described | None = None) -> FedadsTable:
        """Return a party's own table."""
        return FedadsTable(party == ADVERTISER, self.duplicates, known)


@dataclass(frozen=True, slots=True)
class FedadsTable:
    """One party's rows and columns of the official files, in the order aligned, nonaligned, test."""

    owns_label: bool
    duplicates: Literal["first", "last"]
    known: Described | None = None

    def describe(self, root: Path | None) -> Described:
        """Return columns and rows; rows that repeat an id are counted in `notes`."""
        if self.known is not None:
            return self.known
        kept = self._kept(root)
        return Described(
            rows=len(kept.rows),
            numeric=(),
            categorical=ADVERTISER_COLUMNS if self.owns_label else PUBLISHER_COLUMNS,
            label=LABEL if self.owns_label else "",
            classes=("no purchase", "purchase") if self.owns_label else (),
            split={},
            notes=kept.notes,
            files=tuple(path for path, _ in self._files(root)),
        )

    def read(self, columns: Sequence[str], root: Path | None) -> pd.DataFrame:
        """Return these columns, text, NaN where a cell is empty."""
        return pd.concat(list(self.batches(columns, root)), ignore_index=True)

    def batches(self, columns: Sequence[str], root: Path | None) -> Iterator[pd.DataFrame]:
        """Yield these columns some rows at a time."""
        check_columns(columns, ADVERTISER_COLUMNS if self.owns_label else PUBLISHER_COLUMNS, where="fedads")
        kept, start = self._kept(root).rows, 0
        for frame in self._cells(columns, root):
            first, last = np.searchsorted(kept, (start, start + len(frame)))
            yield frame.iloc[kept[first:last] - start].reset_index(drop=True)
            start += len(frame)

    def labels(self, root: Path | None) -> np.ndarray:
        """Return `(rows,)` int64; raises `DataError` for a label that is neither 0 nor 1."""
        parts, start = list[np.ndarray](), 0
        for frame in self._cells([LABEL], root):
            values = column(frame, LABEL)
            broken = np.flatnonzero(~values.isin(["0", "1"]).to_numpy())
            if broken.size:
                got = f"got {values.iloc[broken[0]]!r} in row {start + broken[0] + 1} of the files together"
                raise DataError(f"{got}, allowed 0 or 1; fetch the files again", key=LABEL, where="fedads")
            parts.append((values == "1").to_numpy(np.int64))
            start += len(frame)
        return np.concatenate(parts)[self._kept(root).rows]

    def keys(self, root: Path | None) -> PackedKeys:
        """Return each row's `sample_id`."""
        kept, keys = self._kept(root), _keys(*(path for path, _ in self._files(root)))
        return keys.at(kept.rows) if kept.notes else keys

    def sources(self, root: Path | None) -> np.ndarray:
        """Return `(rows,)` text: the file each row comes from, `aligned`, `alone` or `test`."""
        kept = self._kept(root)
        return np.repeat([name for _, name in self._files(root)], kept.counts)[kept.rows]

    def _files(self, root: Path | None) -> list[tuple[Path, str]]:
        places = {"aligned": ALIGNED, "alone": ALONE, "test": TEST}
        wanted = places if self.owns_label else {name: places[name] for name in ("aligned", "test")}
        return [(place.find(root)[0], name) for name, place in wanted.items()]

    def _cells(self, columns: Sequence[str], root: Path | None) -> Iterator[pd.DataFrame]:
        for path, _ in self._files(root):
            yield from _unwrapped(path, columns)

    def _kept(self, root: Path | None) -> Kept:
        files = tuple(path for path, _ in self._files(root))
        return _kept(files, tuple(stamp_of(path) for path in files), self.duplicates)


@dataclass(frozen=True, slots=True)
class Kept:
    """Which rows of a party's files are used: their `counts`, file by file, and the places of the used ones among all.

    `notes` say how many of each file repeat an id of it or of another and were left out.
    """

    counts: tuple[int, ...]
    rows: np.ndarray
    notes: tuple[str, ...]


@lru_cache(maxsize=8)
def _kept(files: tuple[Path, ...], stamps: tuple[tuple[int, int], ...], duplicates: Literal["first", "last"]) -> Kept:
    """Return the rows that `duplicates` leaves, from memory where the files have not changed: numbers, no value."""
    del stamps
    counts = tuple(rows(path) for path in files)
    again = pd.Series(_keys(*files).codes()).duplicated(keep=duplicates).to_numpy()
    dropped = [int(part.sum()) for part in np.split(again, np.cumsum(counts)[:-1])]
    notes = tuple(
        f"{path.name}: {left_out} of {count} rows repeat a {KEY} of the files together and were left out"
        for path, count, left_out in zip(files, counts, dropped, strict=True)
        if left_out
    )
    return Kept(counts, np.flatnonzero(~again), notes)


def _keys(*files: Path) -> PackedKeys:
    parts, start = list[pd.Series](), 0
    for frame in chain.from_iterable(_unwrapped(path, [KEY]) for path in files):
        keys = column(frame, KEY)
        if bool(keys.isna().any()):
            row = start + int(np.flatnonzero(keys.isna().to_numpy())[0]) + 1
            message = f"got no id in row {row}, allowed one in each row; fetch it again"
            raise DataError(message, key=KEY, where="fedads")
        parts.append(keys)
        start += len(frame)
    return PackedKeys(parts)


def _unwrapped(path: Path, columns: Sequence[str]) -> Iterator[pd.DataFrame]:
    for raw in batches(path, columns):
        yield pd.DataFrame({name: unwrap(column(raw, name)) for name in columns}, index=raw.index)


def unwrap(cells: pd.Series) -> pd.Series:
    """Return the text inside cells such as `['7f3a']`; a cell without brackets stays, an empty list is missing."""
    texts = cells.astype("str").str.strip()
    inner = texts.str.removeprefix("[").str.removesuffix("]").str.strip().str.strip("'\"")
    return inner.where(cells.notna() & (inner != ""), np.nan).astype("str")
