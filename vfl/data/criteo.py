"""Criteo display advertising, the Kaggle challenge's table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from vfl.data import Described
from vfl.data.layout import Place, TableLayout
from vfl.data.tables import column, parsed

COUNTS = tuple(f"I{place}" for place in range(1, 14))
HASHES = tuple(f"C{place}" for place in range(1, 27))


def _logarithms(frame: pd.DataFrame) -> pd.DataFrame:
    logs = {name: parsed(column(frame, name)) for name in frame.columns if name in COUNTS}
    return frame.assign(**{name: np.sign(values) * np.log1p(values.abs()) for name, values in logs.items()})


LAYOUT = TableLayout(
    train=Place(
        ("criteo", "criteo_ctr*", "criteo_kaggle*"),
        ("train.txt", "train.txt.gz", "train.csv*", "*train*.csv*"),
        "train.txt of Kaggle's criteo-display-ad-challenge",
    ),
    label="label",
    numeric=COUNTS,
    categorical=HASHES,
    split={"publisher": HASHES, "advertiser": COUNTS},
    classes=("no click", "click"),
    names=("label", *COUNTS, *HASHES),
    derive=_logarithms,
)


@dataclass(frozen=True, slots=True)
class Criteo:
    """Criteo display advertising (Kaggle): was an advertisement clicked; 13 counts and 26 hashed categories.

    The publisher holds C1 to C26, the advertiser the counts I1 to I13 and the label: a cut of this project, since the
    meaning of the columns is not published. Counts are taken to sign(x) log(1 + |x|). The file is a tab-separated
    `train.txt` without a header, or the same with one. Kaggle's test file has no labels and is not read.

    Licence: the challenge's own terms, for research.

    Reference: Criteo Labs, Display Advertising Challenge, Kaggle 2014,
    https://www.kaggle.com/c/criteo-display-ad-challenge
    """

    def describe(self, root: Path | None) -> Described:
        """Return the table's shape."""
        return LAYOUT.describe(root)

    def read(self, columns: Sequence[str], root: Path | None) -> pd.DataFrame:
        """Return these columns for all rows."""
        return LAYOUT.read(columns, root)

    def batches(self, columns: Sequence[str], root: Path | None) -> Iterator[pd.DataFrame]:
        """Yield these columns some rows at a time."""
        return LAYOUT.batches(columns, root)

    def labels(self, root: Path | None) -> np.ndarray:
        """Return `(rows,)` int64: 1 where the advertisement was clicked."""
        return LAYOUT.labels(root)
