import json
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.preprocessing import OrdinalEncoder, StandardScaler

from vfl.data.adult import Adult
from vfl.data.encode import FIRST, MISSING, UNKNOWN, EncodeOptions, Encoder, fit
from vfl.errors import DataError


@pytest.fixture(scope="module")
def adult():
    described = Adult().describe(None)
    frame = Adult().read(described.columns, None).iloc[::7].reset_index(drop=True)
    train = np.sort(np.random.default_rng(1).permutation(len(frame))[:4000])
    return described, frame, train


def test_numbers_equal_those_of_standard_scaler(adult):
    described, frame, train = adult
    holes = frame.copy()
    holes.loc[::13, "age"] = np.nan
    numeric, _ = fit(holes, train, described.numeric, ()).transform(holes)
    columns = list(described.numeric)
    theirs = np.nan_to_num(StandardScaler().fit(holes.iloc[train][columns]).transform(holes[columns]))
    assert numeric.dtype == torch.float32
    np.testing.assert_allclose(numeric.numpy(), theirs, rtol=1e-5, atol=1e-6)


def test_ids_equal_those_of_ordinal_encoder(adult):
    described, frame, train = adult
    encoder = fit(frame, train, (), described.categorical, EncodeOptions(min_count=5))
    _, ids = encoder.transform(frame)
    columns = list(described.categorical)
    kept = [
        sorted(word for word, count in frame.iloc[train][name].value_counts().items() if count >= 5) for name in columns
    ]
    theirs = OrdinalEncoder(
        categories=[np.array(words, dtype=object) for words in kept],
        handle_unknown="use_encoded_value",
        unknown_value=UNKNOWN - FIRST,
        encoded_missing_value=MISSING - FIRST,
    )
    theirs.fit(pd.DataFrame({name: [words[0]] for name, words in zip(columns, kept, strict=True)}))
    expected = theirs.transform(frame[columns].astype(object)) + FIRST
    expected[frame[columns].isna().to_numpy()] = MISSING
    assert ids.dtype == torch.int64
    assert np.array_equal(ids.numpy(), expected)
    assert encoder.schema.sizes == tuple(len(words) + 2 for words in kept)
    assert all(int(ids[:, place].max()) < size for place, size in enumerate(encoder.schema.sizes))


def test_nothing_is_learned_from_rows_outside_training(adult):
    described, frame, train = adult
    changed = frame.copy()
    outside = np.setdiff1d(np.arange(len(frame)), train)
    changed.loc[outside, "age"] = 1e6
    changed.loc[outside, "race"] = "never seen"
    first = fit(frame, train, described.numeric, described.categorical)
    assert fit(changed, train, described.numeric, described.categorical) == first
    _, ids = first.transform(changed)
    assert (ids[outside, described.categorical.index("race")] == UNKNOWN).all()


def test_ids_by_hand():
    frame = pd.DataFrame({"c": pd.Series(["b", "a", "b", None, "rare", "a", "z"], dtype="str")})
    encoder = fit(frame, np.arange(6), (), ("c",), EncodeOptions(min_count=2))
    assert encoder.vocabularies == (("a", "b"),)
    assert encoder.transform(frame)[1].flatten().tolist() == [3, 2, 3, MISSING, UNKNOWN, 2, UNKNOWN]
    as_category = frame.astype("category")
    assert fit(as_category, np.arange(6), (), ("c",), EncodeOptions(2)) == encoder
    assert encoder.transform(as_category)[1].flatten().tolist() == [3, 2, 3, MISSING, UNKNOWN, 2, UNKNOWN]


def test_constant_and_empty_columns_become_zero_and_missing_becomes_the_mean():
    frame = pd.DataFrame({"same": [0.1] * 6 + [9.0], "none": [np.nan] * 7, "some": [1.0, 3.0, np.nan, 1, 3, 2, 5]})
    encoder = fit(frame, np.arange(6), ("same", "none", "some"), ())
    numeric, ids = encoder.transform(frame)
    assert (numeric[:, :2] == 0).all()
    assert numeric[2, 2] == 0
    assert encoder.mean[2] == 2.0
    assert numeric[6, 2].item() == pytest.approx(3 / np.sqrt(0.8))
    assert ids.shape == (7, 0)


def test_order_of_rows_changes_no_vocabulary(adult):
    described, frame, train = adult
    shuffled = np.random.default_rng(5).permutation(train)
    first, again = (fit(frame, rows, (), described.categorical) for rows in (train, shuffled))
    assert first == again


def test_state_survives_pickle_and_json_exactly(adult):
    described, frame, train = adult
    encoder = fit(frame, train, described.numeric, described.categorical)
    for again in (pickle.loads(pickle.dumps(encoder)), Encoder.from_json(encoder.to_json())):
        assert again == encoder
        assert all(torch.equal(*pair) for pair in zip(again.transform(frame), encoder.transform(frame), strict=True))


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"numeric": ["a"], "vocabularies": []}'])
def test_other_json_is_refused(text):
    with pytest.raises(DataError, match="allowed what to_json wrote"):
        Encoder.from_json(text)


def test_json_of_uneven_lengths_is_refused(adult):
    described, frame, train = adult
    state = json.loads(fit(frame, train, described.numeric, ()).to_json())
    state["mean"] = state["mean"][1:]
    with pytest.raises(DataError, match="uneven lengths"):
        Encoder.from_json(json.dumps(state))


@pytest.mark.parametrize("value", [np.inf, -np.inf, 1e308])
def test_infinite_values_are_refused_by_column(value):
    good = pd.DataFrame({"fine": [1.0, 2, 3], "odd": [1.0, 2, 3]})
    bad = good.assign(odd=[1.0, 2, value])
    with pytest.raises(DataError, match="odd: got an infinite or far too large value"):
        fit(good, np.arange(3), ("fine", "odd"), ()).transform(bad)
    with pytest.raises(DataError, match="odd: got an infinite"):
        fit(bad.assign(odd=[value, value / 2, value]), np.arange(3), ("fine", "odd"), ())


def test_text_absent_columns_and_no_training_rows_are_refused():
    frame = pd.DataFrame({"n": ["1", "two"], "m": [1.0, 2.0]})
    with pytest.raises(DataError, match=r"n: got text .*two.*make the column categorical"):
        fit(frame, np.arange(2), ("n",), ())
    with pytest.raises(DataError, match="k: no such column"):
        fit(frame, np.arange(2), ("k",), ())
    with pytest.raises(DataError, match="m: no such column"):
        fit(frame, np.arange(2), ("m",), ()).transform(frame[["n"]])
    with pytest.raises(DataError, match="got 0 training rows"):
        fit(frame, np.arange(0), ("m",), ())
    with pytest.raises(ValueError, match="got min_count=0"):
        EncodeOptions(min_count=0)
