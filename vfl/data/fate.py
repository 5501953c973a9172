"""FATE's ready-made vertical pairs: a guest's file with the label, a host's without."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from vfl.data import Described
from vfl.data.csv import Csv, CsvTable
from vfl.data.layout import Place
from vfl.types import PartyId


@dataclass(frozen=True, slots=True)
class Fate:
    """The vertical examples of FATE, by `task`: breast, default_credit or vehicle_scale.

    They have 569, 30,000 and 846 rows, the last of four classes. The guest is our advertiser, the host our publisher;
    rows are joined on `id`, and every column is a standardised number. A pair of other files in this layout is read by
    `csv`, with key `id` and label `y`.

    Licence: Apache-2.0.

    Reference: Yang Liu, Tao Fan, Tianjian Chen, Qian Xu, Qiang Yang, FATE: An Industrial Grade Platform for
    Collaborative Learning With Data Protection, JMLR 2021, https://jmlr.org/papers/v22/20-815.html
    """

    task: Literal["breast", "default_credit", "vehicle_scale"] = "breast"

    def describe(self, root: Path | None) -> Described:
        """Return the whole: rows and classes of the guest, columns of both."""
        return self._pair(root).describe(root)

    def read(self, columns: Sequence[str], root: Path | None) -> pd.DataFrame:
        """Return these columns of the guest."""
        return self._pair(root).read(columns, root)

    def labels(self, root: Path | None) -> np.ndarray:
        """Return `(rows,)` int64 class ids of the guest's rows."""
        return self._pair(root).labels(root)

    def of(self, party: PartyId, known: Described | None = None) -> FateTable:
        """Return a party's own table."""
        return FateTable(self, party, known)

    def _pair(self, root: Path | None) -> Csv:
        files = {role: self._place(role).find(root)[0] for role in ("host", "guest")}
        return Csv(publisher=str(files["host"]), advertiser=str(files["guest"]), key="id", label="y")

    def _place(self, role: str) -> Place:
        name = f"{self.task}_hetero_{role}.csv"
        return Place(("fate*",), (f"{name}*",), f"{name} of FATE's examples (https://github.com/FederatedAI/FATE)")

    def table(self, party: PartyId, root: Path | None, known: Described | None) -> CsvTable:
        """Return a party's file."""
        return self._pair(root).of(party, known)


@dataclass(frozen=True, slots=True)
class FateTable:
    """One party's file of a pair."""

    pair: Fate
    party: PartyId
    known: Described | None = None

    def describe(self, root: Path | None) -> Described:
        """Return columns, rows and, at the guest, classes."""
        return self._table(root).describe(root)

    def read(self, columns: Sequence[str], root: Path | None) -> pd.DataFrame:
        """Return these columns for this party's rows."""
        return self._table(root).read(columns, root)

    def batches(self, columns: Sequence[str], root: Path | None) -> Iterator[pd.DataFrame]:
        """Yield these columns some rows at a time."""
        return self._table(root).batches(columns, root)

    def labels(self, root: Path | None) -> np.ndarray:
        """Return the guest's `(rows,)` int64 class ids."""
        return self._table(root).labels(root)

    def keys(self, root: Path | None) -> Sequence[str]:
        """Return each row's key."""
        return self._table(root).keys(root)

    def _table(self, root: Path | None) -> CsvTable:
        return self.pair.table(self.party, root, self.known)
