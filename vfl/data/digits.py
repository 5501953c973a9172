"""Handwritten digits of 8x8 pixels, as scikit-learn embeds them: the smallest set with more than two classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.datasets import load_digits

from vfl.data import Described
from vfl.data.checks import check_columns

SIDE = 8
COLUMNS = tuple(f"px_{row}_{column}" for row in range(SIDE) for column in range(SIDE))
"""Pixel names, row by row from the top left."""


@dataclass(frozen=True, slots=True)
class Digits:
    """Optical digits: 1,797 images of 8x8 pixels, ten classes, cut into a left and a right half.

    Features are `px_ROW_COLUMN`, ink from 0 to 16; some border pixels are always 0. The publisher holds columns 0-3
    (left), the advertiser columns 4-7 (right) and the label, the digit itself. Cross-validated logistic regression
    is right for 80 % of rows on the left half, 83 % on the right and 92 % on both.

    Licence: CC BY 4.0; scikit-learn's copy is the test part of UCI's set.

    Reference: E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository 1998,
    https://doi.org/10.24432/C50P49
    """

    def describe(self, root: Path | None) -> Described:
        """Return the table's shape; `root` is not used."""
        left = tuple(name for name in COLUMNS if int(name[-1]) < SIDE // 2)
        right = tuple(name for name in COLUMNS if int(name[-1]) >= SIDE // 2)
        classes = tuple(str(digit) for digit in range(10))
        return Described(1797, COLUMNS, (), "digit", classes, {"publisher": left, "advertiser": right})

    def read(self, columns: Sequence[str], root: Path | None) -> pd.DataFrame:
        """Return these pixels for all 1,797 rows; raises `DataError` for a column it does not have."""
        check_columns(columns, COLUMNS, where="digits")
        values = np.asarray(load_digits(return_X_y=True)[0])
        return pd.DataFrame({name: values[:, COLUMNS.index(name)] for name in columns}, index=range(len(values)))

    def labels(self, root: Path | None) -> np.ndarray:
        """Return `(1797,)` int64: the digit, 0 to 9."""
        return np.asarray(load_digits(return_X_y=True)[1], np.int64)
