import re

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_digits

from vfl.data.breast_cancer import BreastCancer
from vfl.data.digits import Digits
from vfl.data.digits_parity import DigitsParity
from vfl.errors import DataError
from vfl.registry import build, names

EMBEDDED = ("adult", "breast_cancer", "digits", "digits_parity")


@pytest.mark.parametrize("name", EMBEDDED)
def test_embedded_sets_keep_what_they_describe(name):
    source = build("data", name)
    described = source.describe(None)
    frame, labels = source.read(described.columns, None), source.labels(None)
    assert frame.shape == (described.rows, len(described.columns))
    assert labels.dtype == np.int64
    assert sorted(np.unique(labels)) == list(range(len(described.classes)))
    assert all(re.fullmatch(r"[a-z][a-z0-9_]*", column) for column in described.columns)
    assert sorted(column for columns in described.split.values() for column in columns) == sorted(described.columns)
    assert set(described.split) == {"publisher", "advertiser"}


@pytest.mark.parametrize("name", EMBEDDED)
def test_columns_come_in_the_order_asked_for_and_none_is_allowed(name):
    source = build("data", name)
    described = source.describe(None)
    some = [described.columns[3], described.columns[0]]
    assert list(source.read(some, None).columns) == some
    assert source.read([], None).shape == (described.rows, 0)


@pytest.mark.parametrize("name", EMBEDDED)
def test_unknown_column_is_refused(name):
    with pytest.raises(DataError, match="absent"):
        build("data", name).read(["absent"], None)


def test_no_helper_module_passes_for_a_data_set():
    assert set(EMBEDDED) <= set(names("data"))
    assert not {"shard", "cut", "encode", "checks"} & set(names("data"))


def test_breast_cancer_values_are_those_of_scikit_learn():
    theirs = load_breast_cancer()
    frame = BreastCancer().read(["worst_concave_points", "mean_radius", "fractal_dimension_error"], None)
    order = list(theirs.feature_names)
    for ours, name in zip(
        frame.columns, ["worst concave points", "mean radius", "fractal dimension error"], strict=True
    ):
        assert frame[ours].tolist() == theirs.data[:, order.index(name)].tolist()
    assert [tuple(sorted(name.split())) for name in order] == [
        tuple(sorted(name.split("_"))) for name in BreastCancer().describe(None).columns
    ]


def test_breast_cancer_positives_are_the_malignant_tumours():
    theirs = load_breast_cancer()
    malignant = list(theirs.target_names).index("malignant")
    assert (BreastCancer().labels(None) == 1).tolist() == (theirs.target == malignant).tolist()
    assert BreastCancer().labels(None).sum() == 212


def test_digits_halves_put_together_are_the_image():
    described = Digits().describe(None)
    left = Digits().read(described.split["publisher"], None).to_numpy().reshape(-1, 8, 4)
    right = Digits().read(described.split["advertiser"], None).to_numpy().reshape(-1, 8, 4)
    assert np.array_equal(np.concatenate([left, right], axis=2), load_digits().images)
    assert np.array_equal(Digits().labels(None), load_digits().target)


def test_odd_digits_are_the_positive_ones_of_the_same_rows():
    digits = load_digits().target
    assert [int(label) for label in DigitsParity().labels(None)] == [int(digit in (1, 3, 5, 7, 9)) for digit in digits]
    columns = DigitsParity().describe(None).columns
    assert np.array_equal(DigitsParity().read(columns, None).to_numpy(), load_digits().data)
