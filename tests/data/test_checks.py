import numpy as np
import pandas as pd
import pytest

from vfl.data.checks import check_columns, check_filled, check_label, check_split
from vfl.errors import DataError


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.linspace(0, 1, 50), "got the value 0.0204082, allowed whole numbers or text"),
        ([0.0, 1.0, 0.5], "got the value 0.5, allowed whole numbers"),
        ([0.0, 1.0, np.inf], "got the value inf, allowed whole numbers"),
        (np.arange(5000), "got 5000 distinct labels, allowed 2 to 100"),
        ([1, 1, 1], "got the single class 1, allowed two or more"),
        (["no", "no"], "got the single class no, allowed two or more"),
        ([0.0, np.nan, 1.0], "got 1 missing labels in 3 rows, allowed none"),
        (["yes", None, None], "got 2 missing labels in 3 rows"),
        ([], "got a label without rows"),
        (pd.Series([0.25, 1.0], dtype=object), "got the value 0.25"),
    ],
)
def test_labels_that_are_no_classes(values, message):
    with pytest.raises(DataError) as caught:
        check_label(values if isinstance(values, np.ndarray) else pd.Series(values), "sold", where="ads.csv")
    assert str(caught.value).startswith(f"ads.csv: sold: {message}")
    assert ";" in caught.value.message


@pytest.mark.parametrize(
    "values",
    [[0, 1, 0], [0.0, 1.0], [True, False], ["buy", "leave"], list(range(100)), [-1, 1]],
)
def test_labels_that_are_classes(values):
    check_label(pd.Series(values), "sold")


def test_class_limit_is_the_callers():
    with pytest.raises(DataError, match="got 4 distinct labels, allowed 2 to 3"):
        check_label(np.arange(4), "sold", max_classes=3)


def test_party_without_columns_repeated_and_missing_columns():
    known = ("age", "clicks", "price")
    check_split({"publisher": ("age", "clicks"), "advertiser": ("age", "price")}, known)
    with pytest.raises(DataError, match="publisher: got no columns, allowed one or more"):
        check_split({"publisher": (), "advertiser": known}, known)
    with pytest.raises(DataError, match="advertiser: got 'age' twice, allowed once"):
        check_split({"publisher": ("age",), "advertiser": ("age", "age")}, known)
    with pytest.raises(
        DataError, match=r"^ads.csv: click: no such column; did you mean 'clicks'\? allowed: age, clicks"
    ):
        check_columns(["click"], known, where="ads.csv")


def test_long_lists_of_columns_are_cut_short():
    with pytest.raises(DataError, match=r"and 88 more$"):
        check_columns(["zzz"], [f"c{n:03}" for n in range(100)])


def test_tables_without_rows_or_with_an_empty_column():
    with pytest.raises(DataError, match=r"ads\.csv: got 0 rows"):
        check_filled({"a": False}, 0, where="ads.csv")
    with pytest.raises(DataError, match="b: got no value in 2 rows"):
        check_filled({"a": True, "b": False, "c": True}, 2)
    check_filled({"a": True}, 2)
