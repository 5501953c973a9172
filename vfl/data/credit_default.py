"""UCI Default of Credit Card Clients: does a client fail to pay next month."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from vfl.data import Described
from vfl.data.layout import Place, TableLayout

STATES = ("PAY_0", "PAY_2", "PAY_3", "PAY_4", "PAY_5")
PUBLISHER = ("LIMIT_BAL", "AGE", *STATES, "SEX", "EDUCATION", "MARRIAGE")
ADVERTISER = (
    "PAY_6",
    *(f"BILL_AMT{month}" for month in range(1, 7)),
    *(f"PAY_AMT{month}" for month in range(1, 7)),
)
CATEGORICAL = ("SEX", "EDUCATION", "MARRIAGE")
LAYOUT = TableLayout(
    train=Place(
        ("credit_default*",),
        ("UCI_Credit_Card.csv*", "*.csv*"),
        "UCI_Credit_Card.csv of https://archive.ics.uci.edu/dataset/350/default+of+credit+card+clients",
    ),
    label="default",
    numeric=tuple(name for name in PUBLISHER + ADVERTISER if name not in CATEGORICAL),
    categorical=CATEGORICAL,
    split={"publisher": PUBLISHER, "advertiser": ADVERTISER},
    classes=("paid", "default"),
    aliases={"default": "default.payment.next.month"},
)


@dataclass(frozen=True, slots=True)
class CreditDefault:
    """UCI Default of Credit Card Clients: 30,000 clients of a bank in Taiwan, 22.1 % of whom defaulted.

    Cut as FATE's examples cut it: the host, our publisher, holds the limit, who the client is and the state of
    payment of five months; the guest, our advertiser, the sixth, all bills and payments, and the label.

    Licence: CC BY 4.0.

    Reference: I-Cheng Yeh, Default of Credit Card Clients, UCI Machine Learning Repository 2009,
    https://doi.org/10.24432/C55S3H
    """

    def describe(self, root: Path | None) -> Described:
        """Return the table's shape."""
        return LAYOUT.describe(root)

    def read(self, columns: Sequence[str], root: Path | None) -> pd.DataFrame:
        """Return these columns for all rows."""
        return LAYOUT.read(columns, root)

    def labels(self, root: Path | None) -> np.ndarray:
        """Return `(rows,)` int64: 1 where the client defaulted."""
        return LAYOUT.labels(root)
