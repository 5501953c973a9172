"""The data of the throughput benchmarks: noise with a signal, in the sizes of the two workloads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from vfl.data import Described
from vfl.seeds import Seeds

PUBLISHER_NUMERIC, ADVERTISER_NUMERIC, BUCKETS = 13, 20, 10_000


@dataclass(frozen=True)
class Workload:
    """Benchmark table: 13 numeric columns (and `ids` hashed ids of 10,000 values) against 20 numeric and a label.

    `own_ids` are hashed ids of the advertiser's; `numeric` 0 leaves the numeric columns out. More than one `parties`
    share the publisher's columns' kind, each with as many of its own.
    """

    rows: int = 200_000
    ids: int = 0
    own_ids: int = 0
    numeric: int = 1
    parties: int = 1

    def describe(self, root: Path | None) -> Described:
        """Return the table's shape."""
        numeric, ids = self._names("a", ADVERTISER_NUMERIC), tuple(f"ca{place}" for place in range(self.own_ids))
        split = {"advertiser": numeric + ids}
        for party in range(self.parties):
            mark = "" if party == 0 else f"{party}_"
            theirs = self._names(f"p{mark}", PUBLISHER_NUMERIC)
            hashed = tuple(f"c{mark}{place}" for place in range(self.ids))
            split["publisher" if self.parties == 1 else f"publisher_{party + 1}"] = theirs + hashed
            numeric, ids = numeric + theirs, ids + hashed
        split = {party: split[party] for party in (*list(split)[1:], "advertiser")}
        return Described(self.rows, numeric, ids, "y", ("0", "1"), split, synthetic=True)

    def read(self, columns: Sequence[str], root: Path | None) -> pd.DataFrame:
        """Return noise, the same for a column whenever it is read."""
        return pd.DataFrame({column: self._column(column) for column in columns})

    def labels(self, root: Path | None) -> np.ndarray:
        """Return labels that two columns of either side carry."""
        score = self._column("p0") + self._column("a0")
        return (score > 1).astype(np.int64)

    def _names(self, start: str, count: int) -> tuple[str, ...]:
        return tuple(f"{start}{place}" for place in range(count)) if self.numeric else ()

    def _column(self, name: str) -> np.ndarray:
        rng = Seeds(0).numpy("workload", name)
        if name.startswith("c"):
            return rng.integers(0, BUCKETS, self.rows).astype(str)
        return rng.standard_normal(self.rows).astype(np.float32).astype(np.float64)
