"""Give Me Some Credit: serious delinquency within two years, in the standardised edition that FATE distributes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from vfl.data import Described
from vfl.data.layout import Place, TableLayout

COLUMNS = tuple(f"x{place}" for place in range(10))
LAYOUT = TableLayout(
    train=Place(
        ("give_credit*",),
        ("give_credit_homo_test.csv*", "*.csv*"),
        "give_credit_homo_test.csv of FATE's examples (https://github.com/FederatedAI/FATE, examples/data)",
    ),
    label="y",
    numeric=COLUMNS,
    categorical=(),
    split={"publisher": COLUMNS[:5], "advertiser": COLUMNS[5:]},
    classes=("paid", "delinquent"),
)


@dataclass(frozen=True, slots=True)
class GiveCredit:
    """Give Me Some Credit: will a borrower be 90 days late within two years; ten standardised numbers, 6.7 % are.

    The publisher holds x0 to x4, the advertiser x5 to x9 and the label: a cut of this project.

    Licence: the challenge's own terms, for research.

    Reference: Credit Fusion, Will Cukierski, Give Me Some Credit, Kaggle 2011,
    https://www.kaggle.com/c/GiveMeSomeCredit
    """

    def describe(self, root: Path | None) -> Described:
        """Return the table's shape."""
        return LAYOUT.describe(root)

    def read(self, columns: Sequence[str], root: Path | None) -> pd.DataFrame:
        """Return these columns for all rows."""
        return LAYOUT.read(columns, root)

    def labels(self, root: Path | None) -> np.ndarray:
        """Return `(rows,)` int64: 1 where the borrower was late."""
        return LAYOUT.labels(root)
