"""Avazu click-through rate prediction, the Kaggle challenge's table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from vfl.data import Described
from vfl.data.layout import Place, TableLayout

PUBLISHER = (
    "banner_pos",
    "site_id",
    "site_domain",
    "site_category",
    "app_id",
    "app_domain",
    "app_category",
    "device_id",
    "device_ip",
    "device_model",
    "device_type",
    "device_conn_type",
    "C1",
    "C15",
    "C16",
)
ADVERTISER = ("C14", "C17", "C18", "C19", "C20", "C21")
LAYOUT = TableLayout(
    train=Place(
        ("avazu*",),
        ("train.csv*", "*train*.csv*"),
        "train.gz of Kaggle's avazu-ctr-prediction, as train.csv.gz,",
    ),
    label="click",
    numeric=(),
    categorical=PUBLISHER + ADVERTISER,
    split={"publisher": PUBLISHER, "advertiser": ADVERTISER},
    classes=("no click", "click"),
    times=("hour",),
)


@dataclass(frozen=True, slots=True)
class Avazu:
    """Avazu mobile advertising (Kaggle): was an advertisement clicked; 21 categories.

    The publisher holds site, app, device, banner position and the sizes C15 and C16 with C1, the advertiser the
    campaign columns C14 and C17 to C21 and the label: a cut of this project, since the meaning of the C columns is not
    published. `hour` orders rows in time and is no feature.

    Licence: the challenge's own terms, for research.

    Reference: Steve Wang, Will Cukierski, Click-Through Rate Prediction, Kaggle 2014,
    https://www.kaggle.com/c/avazu-ctr-prediction
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
