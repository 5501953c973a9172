"""UCI Bank Marketing: did a phone call sell a deposit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from vfl.data import Described
from vfl.data.layout import Place, TableLayout

NUMERIC = ("campaign", "pdays", "previous", "age", "balance")
CATEGORICAL = ("contact", "day", "month", "poutcome", "job", "marital", "education", "default", "housing", "loan")
LAYOUT = TableLayout(
    train=Place(
        ("bank_marketing*", "bank*"),
        ("bank-full.csv*",),
        "bank-full.csv of https://archive.ics.uci.edu/dataset/222/bank+marketing",
    ),
    label="y",
    numeric=NUMERIC,
    categorical=CATEGORICAL,
    split={
        "publisher": ("campaign", "pdays", "previous", "contact", "day", "month", "poutcome"),
        "advertiser": ("age", "balance", "job", "marital", "education", "default", "housing", "loan"),
    },
    positive="yes",
    classes=("no", "yes"),
)


@dataclass(frozen=True, slots=True)
class BankMarketing:
    """UCI Bank Marketing: 45,211 calls, 11.7 % of which sold a term deposit.

    The publisher holds what its campaign did (contact, day, month, earlier calls), the advertiser who the client is
    and the label. `duration` is left out: it is known only once the call, and so the outcome, is over.

    Licence: CC BY 4.0.

    Reference: Sérgio Moro, Paulo Rita, Paulo Cortez, Bank Marketing, UCI Machine Learning Repository 2014,
    https://doi.org/10.24432/C5K306
    """

    def describe(self, root: Path | None) -> Described:
        """Return the table's shape."""
        return LAYOUT.describe(root)

    def read(self, columns: Sequence[str], root: Path | None) -> pd.DataFrame:
        """Return these columns for all rows."""
        return LAYOUT.read(columns, root)

    def labels(self, root: Path | None) -> np.ndarray:
        """Return `(rows,)` int64: 1 where the client took the deposit."""
        return LAYOUT.labels(root)
