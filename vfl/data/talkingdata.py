"""TalkingData AdTracking: application installs after a click, the Kaggle challenge's table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from vfl.data import Described
from vfl.data.layout import Place, TableLayout

PUBLISHER = ("channel", "os", "device", "hour", "ip")
ADVERTISER = ("app",)


def _hour(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(hour=pd.to_datetime(frame["hour"]).dt.hour) if "hour" in frame else frame


LAYOUT = TableLayout(
    train=Place(
        ("talkingdata*",),
        ("train.csv*", "train_sample.csv*"),
        "train_sample.csv of Kaggle's talkingdata-adtracking-fraud-detection",
    ),
    label="is_attributed",
    numeric=(),
    categorical=PUBLISHER + ADVERTISER,
    split={"publisher": PUBLISHER, "advertiser": ADVERTISER},
    classes=("no install", "install"),
    times=("click_time",),
    raw={"hour": "click_time"},
    derive=_hour,
)


@dataclass(frozen=True, slots=True)
class Talkingdata:
    """TalkingData AdTracking (Kaggle): did a click lead to an install; 0.2 % do.

    The publisher holds channel, os, device, ip and the hour of the click, the advertiser the app and the label: a cut
    of this project. `attributed_time` is left out, for it is the label; `click_time` orders rows in time.

    Licence: the challenge's own terms, for research.

    Reference: TalkingData, AdTracking Fraud Detection Challenge, Kaggle 2018,
    https://www.kaggle.com/c/talkingdata-adtracking-fraud-detection
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
        """Return `(rows,)` int64: 1 where the application was installed."""
        return LAYOUT.labels(root)
