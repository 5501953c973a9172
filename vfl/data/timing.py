"""A holdout in the order of time: the latest rows are for testing, those before them for validation."""

from __future__ import annotations

import numpy as np
import pandas as pd

from vfl.data.cut import pack
from vfl.data.tables import parsed
from vfl.errors import ConfigError, DataError


def by_time(values: pd.Series, name: str, test: float, valid: float) -> tuple[bytes, bytes]:
    """Return the packed masks of test and validation rows: the latest `test` share of rows, and `valid` before it.

    Times are numbers, or texts that read as dates. Rows of one time keep the order of the file. Raises `DataError`
    where a row has no time, `ConfigError` where no row is left to train on.
    """
    times = _times(values, name)
    order = np.argsort(times, kind="stable")
    tested, validated = round(test * len(order)), round(valid * len(order))
    if tested + validated >= len(order) or tested == 0:
        got = f"got {tested} rows to test and {validated} to validate of {len(order)}"
        raise ConfigError(f"{got}, allowed one or more to test and to train; change test or valid", key="holdout")
    masks = np.zeros((2, len(order)), dtype=bool)
    masks[0, order[len(order) - tested :]] = True
    masks[1, order[len(order) - tested - validated : len(order) - tested]] = True
    return pack(masks[0]), pack(masks[1])


def _times(values: pd.Series, name: str) -> np.ndarray:
    numbers = parsed(values)
    if bool((numbers.isna() & values.notna()).any()):
        dates = pd.to_datetime(values, errors="coerce", format="ISO8601", utc=True)
        numbers = dates.astype("int64").astype(np.float64).where(dates.notna(), np.nan)
    missing = np.flatnonzero(numbers.isna().to_numpy())
    if missing.size:
        got = f"got {values.iloc[missing[0]]!r} in row {missing[0] + 1}"
        raise DataError(f"{got}, allowed a number or a date in each row; mend the column", key=name)
    return numbers.to_numpy(np.float64)
