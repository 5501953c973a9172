"""Checks on tables, cuts and labels, made before a run starts: each raises one `DataError` that says what to do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches

import numpy as np
import pandas as pd

from vfl.errors import DataError
from vfl.types import PartyId

MAX_CLASSES = 100
"""More distinct label values than this are taken for a quantity, not for classes."""

SHOWN = 12
"""Names shown of a longer list."""


def check_columns(wanted: Sequence[str], known: Collection[str], *, where: str = "") -> None:
    """Raise `DataError` for the first wanted column that the table lacks, naming the nearest one it has."""
    for column in wanted:
        if column not in known:
            near = get_close_matches(column, list(known), n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise DataError(f"no such column; {hint}allowed: {_listed(sorted(known))}", key=column, where=where)


def check_split(split: Mapping[PartyId, Sequence[str]], known: Collection[str], *, where: str = "") -> None:
    """Raise `DataError` for a party without columns, or with a column that is repeated or that the table lacks.

    Two parties may hold the same column: each keeps its own copy.
    """
    for party, columns in split.items():
        if not columns:
            raise DataError("got no columns, allowed one or more; name some in split", key=party, where=where)
        twice = [column for column, count in Counter(columns).items() if count > 1]
        if twice:
            raise DataError(f"got {twice[0]!r} twice, allowed once; remove one", key=party, where=where)
        check_columns(columns, known, where=where)


def check_filled(filled: Mapping[str, bool], rows: int, *, where: str = "") -> None:
    """Raise `DataError` for a table without rows, or for the first column that is not `filled`: holds not one value."""
    if rows == 0:
        raise DataError("got 0 rows, allowed one or more; check the file and the key it is joined on", where=where)
    for column, any_value in filled.items():
        if not any_value:
            message = f"got no value in {rows} rows, allowed at least one; leave the column out of split"
            raise DataError(message, key=column, where=where)


def check_label(values: pd.Series | np.ndarray, name: str, *, where: str = "", max_classes: int = MAX_CLASSES) -> None:
    """Raise `DataError` unless a raw label column, `(rows,)` numbers or text, can be read as two or more classes.

    Refused: no rows, missing values, numbers with a fraction, more than `max_classes` distinct values, a single one.
    """
    series = pd.Series(values).infer_objects()
    fault = _label_fault(series, max_classes)
    if fault:
        raise DataError(fault, key=name, where=where)


def _label_fault(series: pd.Series, max_classes: int) -> str:
    missing = int(series.isna().sum())
    if series.empty:
        return "got a label without rows, allowed one or more; check the file"
    if missing:
        return f"got {missing} missing labels in {len(series)} rows, allowed none; remove these rows or fill them in"
    if pd.api.types.is_float_dtype(series.dtype):
        numbers = series.to_numpy(np.float64)
        broken = numbers[~np.isfinite(numbers) | (numbers != np.floor(numbers))]
        if broken.size:
            return f"got the value {broken[0]:g}, allowed whole numbers or text; cut a quantity into classes first"
    distinct = series.nunique()
    if distinct > max_classes:
        return f"got {distinct} distinct labels, allowed 2 to {max_classes}; cut a quantity into classes first"
    if distinct < 2:
        return f"got the single class {series.iloc[0]!s}, allowed two or more; check the column and any row filter"
    return ""


def _listed(names: Sequence[str]) -> str:
    more = f", and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
