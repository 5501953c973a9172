"""Tables read some rows at a time give what reading them at once gives, and name faults by the rows of the file."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import feather

from vfl.align import Packed
from vfl.data import tables
from vfl.data.breast_cancer import BreastCancer
from vfl.data.csv import Csv
from vfl.data.cut import RowCut
from vfl.data.encode import EncodeOptions, Moments, fit, fit_batches
from vfl.data.keys import PackedKeys
from vfl.data.shard import Shard, load_features
from vfl.errors import DataError
from vfl.types import Role

ROWS = 50


@pytest.fixture
def small_batches(monkeypatch):
    monkeypatch.setattr(tables, "BATCH_ROWS", 7)


def table() -> pd.DataFrame:
    stream = np.random.Generator(np.random.PCG64(3))
    words = np.array(["red", "two\nlines", 'a "quoted", word', "NA", ""])[stream.integers(5, size=ROWS)]
    numbers = np.where(stream.uniform(size=ROWS) < 0.2, np.nan, stream.standard_normal(ROWS))
    return pd.DataFrame({"id": np.arange(ROWS), "word": words, "number": numbers, "half": np.arange(ROWS) / 2})


def write(frame: pd.DataFrame, path) -> None:
    if path.suffix == ".csv":
        frame.to_csv(path, index=False)
    elif path.suffix == ".parquet":
        frame.to_parquet(path, row_group_size=9)
    else:
        feather.write_feather(pa.Table.from_pandas(frame), str(path), chunksize=11)


@pytest.mark.parametrize("name", ["t.csv", "t.parquet", "t.arrow"])
def test_batches_together_are_the_whole_file(tmp_path, small_batches, name):
    write(table(), tmp_path / name)
    columns = ["word", "number", "half"]
    parts = list(tables.batches(tmp_path / name, columns))
    assert [len(part) for part in parts] == [7] * 7 + [1]
    pd.testing.assert_frame_equal(pd.concat(parts, ignore_index=True), tables.load(tmp_path / name, columns))
    assert [part.shape for part in tables.batches(tmp_path / name, [])] == [(7, 0)] * 7 + [(1, 0)]


@pytest.mark.parametrize("name", ["t.csv", "t.parquet", "t.arrow"])
def test_a_file_without_rows_is_one_empty_batch(tmp_path, name):
    write(table().iloc[:0], tmp_path / name)
    (part,) = tables.batches(tmp_path / name, ["word", "half"])
    assert part.shape == (0, 2)
    assert tables.rows(tmp_path / name) == 0


def pair(folder, **changes) -> Csv:
    frame = table().assign(id=[f"k{place}" for place in range(ROWS)], y=np.arange(ROWS) % 2)
    frame = frame.assign(word=frame["word"].replace({"NA": "blue", "": "green"}))
    frame.drop(columns="y").to_parquet(folder / "a.parquet", row_group_size=9)
    own = frame.assign(**changes)
    own.to_csv(folder / "b.csv", index=False)
    return Csv(str(folder / "a.parquet"), str(folder / "b.csv"), key="id", label="y")


def test_a_table_in_batches_is_described_and_read_as_in_one(tmp_path, monkeypatch):
    source = pair(tmp_path)
    whole = {party: source.of(party).read(["word", "number"], None) for party in ("publisher", "advertiser")}
    described, labels = source.describe(None), source.labels(None)
    monkeypatch.setattr(tables, "BATCH_ROWS", 7)
    again = Csv(str(tmp_path / "a.parquet"), str(tmp_path / "b.csv"), key="id", label="y", types={"half": "numeric"})
    assert again.describe(None) == described
    assert np.array_equal(again.labels(None), labels)
    for party, frame in whole.items():
        assert len(list(again.of(party).batches(["word"], None))) == 8
        pd.testing.assert_frame_equal(again.of(party).read(["word", "number"], None), frame)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"number": ["1.5"] * 40 + ["x"] + ["2"] * 9}, "number: got 'x' in row 41, allowed finite numbers"),
        ({"id": [*range(48), 40, 3]}, r"id: got '40' in rows 41 and 49, .* remove 2 rows"),
        ({"id": [*range(30), None, *range(19)]}, "id: got no key in row 31"),
        ({"y": [0, 1] * 24 + [1, None]}, "y: got no label in row 50 and 1 of 50 rows"),
        ({"number": [None] * ROWS}, "number: got no value in 50 rows"),
    ],
)
def test_a_fault_in_a_later_batch_is_named_by_the_row_of_the_file(tmp_path, small_batches, changes, message):
    with pytest.raises(DataError, match=message):
        pair(tmp_path, **changes).describe(None)


@pytest.mark.parametrize(("duplicates", "value"), [("first", "3"), ("last", "49")])
def test_a_repeated_key_is_dropped_across_batches(tmp_path, small_batches, duplicates, value):
    pair(tmp_path, id=[f"k{place}" for place in range(49)] + ["k3"], word=[str(place) for place in range(ROWS)])
    asked = Csv(
        str(tmp_path / "a.parquet"), str(tmp_path / "b.csv"), "id", "y", duplicates, types={"word": "categorical"}
    )
    own = asked.of("advertiser")
    assert own.describe(None).rows == len(own.labels(None)) == 49
    assert own.read(["word"], None)["word"][own.keys(None).index("k3") if duplicates == "first" else 48] == value


def test_a_shard_in_batches_holds_the_rows_of_its_cut(monkeypatch):
    columns = BreastCancer().describe(None).split["publisher"]
    cut = RowCut(569, seed=7, overlap=0.5)
    shard = Shard({"name": "breast_cancer"}, None, "publisher", Role.PUBLISHER, columns, False, cut)
    whole = load_features(shard).frame
    read = BreastCancer.read

    def batches(self, columns, root):
        frame = read(self, columns, root)
        yield from (frame.iloc[start : start + 100] for start in range(0, 569, 100))

    monkeypatch.setattr(BreastCancer, "batches", batches, raising=False)
    assert len(list(load_features(shard).batches())) == 6
    pd.testing.assert_frame_equal(load_features(shard).frame, whole)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 40), max_size=4), st.integers(0, 99))
def test_moments_of_batches_add_up_to_those_of_all_rows(cuts, seed):
    stream = np.random.Generator(np.random.PCG64(seed))
    values = stream.standard_normal((40, 3)) * [1, 1e-3, 1e6] + [0, 1e3, -5]
    values[stream.uniform(size=values.shape) < 0.3] = np.nan
    total = Moments.none(3)
    for part in np.split(values, sorted(cuts)):
        total = total + Moments.of(part)
    assert total.rows == 40
    np.testing.assert_allclose(total.mean, np.nanmean(values, axis=0), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(np.sqrt(total.squares / total.count), np.nanstd(values, axis=0), rtol=1e-9)


def test_vocabularies_do_not_depend_on_batches():
    stream = np.random.Generator(np.random.PCG64(0))
    frame = pd.DataFrame({"c": stream.integers(12, size=200).astype(str), "n": np.full(200, 0.1)})
    whole = fit(frame, np.arange(200), ["n"], ["c"], EncodeOptions(min_count=17))
    parts = [frame.iloc[start : start + 13] for start in range(0, 200, 13)]
    found = fit_batches(parts, ["n"], ["c"], EncodeOptions(min_count=17))
    assert 2 < len(found.vocabularies[0]) < 12
    assert found.vocabularies == whole.vocabularies
    assert found.scale == whole.scale == (0.0,)


def test_packed_keys_are_texts_in_order():
    texts = ["a", "ß", "", "a", "x" * 40]
    keys = PackedKeys([texts[:2], pd.Series(texts[2:], dtype="str")])
    assert isinstance(keys, Packed)
    assert list(keys) == texts
    assert keys[1:3] == texts[1:3]
    assert keys.take(np.array([4, 0])) == [texts[4], "a"]
    assert list(keys.at(np.array([1, 1]))) == ["ß", "ß"]
    assert keys.codes()[0] == keys.codes()[3]
    assert len(set(keys.codes().tolist())) == 4
    assert not keys.distinct()
    assert keys.at(np.array([4, 0, 1, 2])).distinct()


def test_texts_whose_hashes_are_the_same_are_still_told_apart(monkeypatch):
    monkeypatch.setattr("vfl.data.keys._hash", lambda texts, categorize: np.zeros(len(texts), np.uint64))
    assert PackedKeys([["a", "b"]]).distinct()
    assert not PackedKeys([["a", "a"]]).distinct()
