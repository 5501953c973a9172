"""Criteo attribution: thirty days of impressions, with the clicks they led to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from vfl.data import Described
from vfl.data.layout import Place, TableLayout
from vfl.data.tables import header, load
from vfl.errors import DataError

PUBLISHER = ("cat1", "cat4", "cat8")
ADVERTISER = ("cat6", "cat9")
LAYOUT = TableLayout(
    train=Place(
        ("criteo_attribution*",),
        ("criteo_attribution_dataset.tsv*", "*.tsv*", "*.csv*"),
        "criteo_attribution_dataset.tsv.gz of https://ailab.criteo.com/criteo-attribution-modeling-bidding-dataset/",
    ),
    label="click",
    numeric=(),
    categorical=PUBLISHER + ADVERTISER,
    split={"publisher": PUBLISHER, "advertiser": ADVERTISER},
    classes=("no click", "click"),
    times=("timestamp",),
)


@dataclass(frozen=True, slots=True)
class CriteoAttribution:
    """Criteo attribution: was an impression clicked; five hashed context categories.

    The publisher holds cat1, cat4 and cat8, the advertiser cat6, cat9 and the label: a cut of this project. A file that
    has a column `split` brings its own test rows, those that say `test`, else those that say `valid`; Criteo's own
    file has a `timestamp` instead, for a holdout in time.

    Licence: CC BY-NC-SA 4.0.

    Reference: Eustache Diemert, Julien Meynet, Pierre Galland, Damien Lefortier, Attribution Modeling Increases
    Efficiency of Bidding in Display Advertising, AdKDD 2017, https://arxiv.org/abs/1707.06409
    """

    def describe(self, root: Path | None) -> Described:
        """Return the table's shape."""
        return replace(LAYOUT.describe(root), official_test="split" in header(LAYOUT.files(root)[0]))

    def read(self, columns: Sequence[str], root: Path | None) -> pd.DataFrame:
        """Return these columns for all rows."""
        return LAYOUT.read(columns, root)

    def batches(self, columns: Sequence[str], root: Path | None) -> Iterator[pd.DataFrame]:
        """Yield these columns some rows at a time."""
        return LAYOUT.batches(columns, root)

    def labels(self, root: Path | None) -> np.ndarray:
        """Return `(rows,)` int64: 1 where the impression was clicked."""
        return LAYOUT.labels(root)

    def test_rows(self, root: Path | None) -> np.ndarray:
        """Return `(rows,)` bool: the rows that the file itself sets aside."""
        file = LAYOUT.files(root)[0]
        values = load(file, ["split"])["split"]
        for word in ("test", "valid"):
            if bool((values == word).any()):
                return (values == word).to_numpy(bool)
        raise DataError("got no row for testing, allowed test or valid; use random", key="split", where=str(file))
