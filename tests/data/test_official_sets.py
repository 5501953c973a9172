"""Data sets in their authors' layouts: generated files of each layout here, the real files where VFL_DATA has them."""

from __future__ import annotations

import gzip
import io
import pickle
import tarfile

import numpy as np
import pandas as pd
import pytest
from harness import config, train
from PIL import Image

from vfl.data import Described
from vfl.data.fedads import ADVERTISER_COLUMNS, PUBLISHER_COLUMNS
from vfl.data.images import cut_pixels, pixel_names
from vfl.errors import DataError
from vfl.registry import build

OFFICIAL_FEDADS = {
    "advertiser": [f"l_i_fea_{n}" for n in range(1, 11)] + [f"l_u_fea_{n}" for n in range(1, 7)],
    "publisher": ["l_u_fea_1", "f_u_fea_1", "f_u_fea_2", "f_uc_fea_1", "f_uc_fea_2", "l_c_fea", "f_c"],
}
"""The official table of fields, written out once more."""


def fedads_frame(rows: int, first: int, columns: list[str], seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    table = {"sample_id": [f"s{first + place}" for place in range(rows)], "label": rng.integers(0, 2, rows).astype(str)}
    return pd.DataFrame({**table, **{name: rng.choice(list("abcdef"), rows) for name in columns}})


def stringified(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.map(lambda value: f"['{value}']" if isinstance(value, str) else "[]")


@pytest.fixture
def fedads(tmp_path):
    both = list(dict.fromkeys(OFFICIAL_FEDADS["advertiser"] + OFFICIAL_FEDADS["publisher"]))
    aligned = fedads_frame(120, 0, both, 1)
    aligned.loc[3, "f_c"] = np.nan
    repeated = pd.concat([aligned, aligned.iloc[[5]].assign(l_i_fea_1="zzz")], ignore_index=True)
    alone = fedads_frame(200, 1000, OFFICIAL_FEDADS["advertiser"], 2)
    test = fedads_frame(80, 5000, both, 3)
    folder = tmp_path / "fedads"
    folder.mkdir()
    stringified(repeated).to_csv(folder / "sample_train_aligned.csv", index=False)
    stringified(test).to_csv(folder / "sample_test.csv.gz", index=False)
    data = stringified(alone).to_csv(index=False).encode()
    with tarfile.open(folder / "sample_train_nonaligned.tar.gz", "w:gz") as archive:
        member = tarfile.TarInfo("sample_train_nonaligned.csv")
        member.size = len(data)
        archive.addfile(member, io.BytesIO(data))
    return tmp_path, aligned, alone, test


def test_fedads_gives_each_party_the_columns_of_the_official_table(fedads):
    root = fedads[0]
    described = build("data", "fedads").describe(root)
    assert {party: sorted(columns) for party, columns in described.split.items()} == {
        party: sorted(columns) for party, columns in OFFICIAL_FEDADS.items()
    }
    assert (len(ADVERTISER_COLUMNS), len(PUBLISHER_COLUMNS)) == (16, 7)
    for party, columns in OFFICIAL_FEDADS.items():
        table = build("data", "fedads").of(party)
        assert sorted(table.describe(root).columns) == sorted(columns)
        stranger = next(name for name in OFFICIAL_FEDADS["publisher" if party == "advertiser" else "advertiser"][1:])
        with pytest.raises(DataError, match="no such column"):
            table.read([stranger], root)


@pytest.mark.parametrize("rows", [7, 2**18])
def test_fedads_round_trips_through_its_layout(fedads, monkeypatch, rows):
    monkeypatch.setattr("vfl.data.tables.BATCH_ROWS", rows)
    root, aligned, alone, test = fedads
    source = build("data", "fedads")
    own = pd.concat([aligned, alone, test], ignore_index=True)
    theirs = pd.concat([aligned, test], ignore_index=True)
    for party, table in (("advertiser", own), ("publisher", theirs)):
        columns = OFFICIAL_FEDADS[party]
        pd.testing.assert_frame_equal(
            source.of(party).read(columns, root), table[columns].astype("str").where(table[columns].notna())
        )
        assert list(source.of(party).keys(root)) == table["sample_id"].tolist()
    assert source.labels(root).tolist() == own["label"].astype(int).tolist()
    assert source.test_rows(root).tolist() == own["sample_id"].isin(test["sample_id"]).tolist()


def test_fedads_counts_the_rows_that_repeat_an_id_and_keeps_the_first(fedads):
    root, aligned, _, _ = fedads
    described = build("data", "fedads").describe(root)
    told = "1 of 121 rows repeat a sample_id of the files together and were left out"
    assert described.notes == (f"sample_train_aligned.csv: {told}",)
    assert described.held == {"publisher": 200, "advertiser": 400}
    kept = build("data", "fedads").read(["l_i_fea_1"], root)["l_i_fea_1"]
    assert kept.iloc[5] == aligned["l_i_fea_1"].iloc[5]
    last = build("data", {"name": "fedads", "duplicates": "last"})
    assert "zzz" in set(last.read(["l_i_fea_1"], root)["l_i_fea_1"])


def test_fedads_trains_with_its_own_test_rows_and_leaves_the_unaligned_to_the_advertiser(fedads, tmp_path):
    root = fedads[0]
    asked = config(
        data={"name": "fedads", "root": str(root)}, holdout={"by": "official"}, train={"epochs": 1, "batch_size": 32}
    )
    report = train(asked, tmp_path / "run").reports["advertiser"]
    assert report["test"] == 80
    assert report["train"] + report["valid"] + report["test"] == 200
    assert report["held/advertiser"] == report["only"] == 200


def test_a_broken_fedads_label_is_refused(fedads):
    root, aligned, _, _ = fedads
    stringified(aligned.assign(label="2")).to_csv(root / "fedads" / "sample_train_aligned.csv", index=False)
    with pytest.raises(DataError, match=r"fedads: label: got '2' in row 1"):
        build("data", "fedads").labels(root)


def test_absent_files_say_what_goes_where(tmp_path):
    for name in ("fedads", "criteo", "avazu", "alimama", "talkingdata", "bank_marketing", "cifar10", "mnist", "fate"):
        with pytest.raises(DataError, match=rf"no data file; put .* into {tmp_path}/"):
            build("data", name).describe(tmp_path)
    with pytest.raises(DataError, match=r"set data\.root or VFL_DATA to FOLDER"):
        build("data", "avazu").describe(None)


def test_criteos_file_without_a_header_and_with_one_read_alike(tmp_path):
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"label": rng.integers(0, 2, 50)})
    for place in range(1, 14):
        table[f"I{place}"] = rng.integers(-2, 500, 50).astype(float)
    for place in range(1, 27):
        table[f"C{place}"] = rng.choice(["68fd1e64", "05db9164", ""], 50)
    table.iloc[3, 4] = np.nan
    for folder, header, separator, name in (("a", False, "\t", "train.txt"), ("b", True, ",", "train.csv.gz")):
        (tmp_path / folder / "criteo").mkdir(parents=True)
        table.to_csv(tmp_path / folder / "criteo" / name, header=header, sep=separator, index=False)
    found = [build("data", "criteo").read(["I2", "I4", "C7"], tmp_path / folder) for folder in "ab"]
    pd.testing.assert_frame_equal(*found)
    expected = [np.copysign(np.log(1 + abs(value)), value) for value in table["I2"]]
    np.testing.assert_allclose(found[0]["I2"], expected)
    assert build("data", "criteo").labels(tmp_path / "a").tolist() == table["label"].tolist()
    assert build("data", "criteo").describe(tmp_path / "a").rows == 50


def test_alimamas_contest_file_brings_times_and_other_names(tmp_path, vfl_data):
    real = pd.read_parquet(next((vfl_data).glob("alimama*/train.parquet"))).head(40)
    folder = tmp_path / "alimama"
    folder.mkdir()
    official = real.rename(columns={"item_category": "item_category_list"}).assign(context_timestamp=range(40))
    official.loc[2, "user_age_level"] = -1
    official.to_csv(folder / "round1_ijcai_18_train_20180301.txt", sep=" ", index=False)
    source = build("data", "alimama")
    assert source.describe(tmp_path).times == ("context_timestamp",)
    frame = source.read(["user_age_level", "item_category", "context_timestamp"], tmp_path)
    assert frame["user_age_level"].isna().tolist() == [place == 2 for place in range(40)]
    assert frame["item_category"].tolist() == real["item_category"].astype(str).tolist()


def cifar(folder, rows: int = 6) -> np.ndarray:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (rows + 2, 32, 32, 3), dtype=np.uint8)
    batches = folder / "cifar10" / "cifar-10-batches-py"
    batches.mkdir(parents=True)
    for name, part in (("data_batch_1", images[:4]), ("data_batch_2", images[4:rows]), ("test_batch", images[rows:])):
        planes = part.transpose(0, 3, 1, 2).reshape(len(part), -1)
        batch = {b"data": planes, b"labels": [place % 10 for place in range(len(part))]}
        (batches / name).write_bytes(pickle.dumps(batch))
    return images


def test_cifar_batches_and_parquet_hold_the_same_pictures(tmp_path):
    images = cifar(tmp_path / "pickles")
    folder = tmp_path / "parquet" / "cifar10"
    folder.mkdir(parents=True)
    encoded = []
    for image in images:
        stream = io.BytesIO()
        Image.fromarray(image).save(stream, "PNG")
        encoded.append({"bytes": stream.getvalue(), "path": None})
    for name, part in (("train-00000-of-00001", slice(0, 6)), ("test-00000-of-00001", slice(6, 8))):
        labels = list(range(len(encoded[part])))
        pd.DataFrame({"img": encoded[part], "label": labels}).to_parquet(folder / f"{name}.parquet")
    source = build("data", "cifar10")
    for root in (tmp_path / "pickles", tmp_path / "parquet"):
        described = source.describe(root)
        halves = {party: source.read(columns, root).to_numpy() for party, columns in described.split.items()}
        left, right = (halves[party].reshape(-1, 32, 16, 3) for party in ("publisher", "advertiser"))
        assert np.array_equal(np.concatenate([left, right], axis=2), images)
        assert source.test_rows(root).tolist() == [False] * 6 + [True] * 2
        assert described.notes == ()
    some = build("data", {"name": "cifar10", "rows": 4})
    assert some.describe(tmp_path / "pickles").rows == 6
    left_out = some.read(["px_0_0_0"], tmp_path / "pickles")["px_0_0_0"]
    assert left_out.tolist() == images[[0, 1, 2, 3, 6, 7], 0, 0, 0].tolist()
    assert some.labels(tmp_path / "pickles").tolist() == [0, 1, 2, 3, 0, 1]


class Trap:
    def __reduce__(self):
        return (open, ("/tmp/never-made-by-a-data-set", "w"))


def test_a_pickle_that_wants_to_run_something_is_refused(tmp_path):
    cifar(tmp_path)
    batch = tmp_path / "cifar10" / "cifar-10-batches-py" / "data_batch_1"
    batch.write_bytes(pickle.dumps({b"labels": Trap()}))
    with pytest.raises(DataError, match=r"data_batch_1: cannot be read \(it names (builtins|_?io)\.open\)"):
        build("data", "cifar10").labels(tmp_path)


@pytest.mark.parametrize("packed", [True, False])
def test_mnist_idx_files(tmp_path, packed):
    rng = np.random.default_rng(0)
    folder = tmp_path / "mnist"
    folder.mkdir()
    images = rng.integers(0, 256, (7, 28, 28), dtype=np.uint8)
    labels = np.arange(7, dtype=np.uint8)
    for part, rows in (("train", slice(0, 5)), ("t10k", slice(5, 7))):
        held = images[rows]
        sizes = np.array([2051, len(held), 28, 28], ">i4").tobytes()
        files = {
            "images-idx3": sizes + held.tobytes(),
            "labels-idx1": np.array([2049, len(held)], ">i4").tobytes() + labels[rows].tobytes(),
        }
        for what, data in files.items():
            name = f"{part}-{what}-ubyte" + (".gz" if packed else "")
            (folder / name).write_bytes(gzip.compress(data) if packed else data)
    source = build("data", {"name": "mnist", "parts": "quadrants"})
    described = source.describe(tmp_path)
    assert described.official_test
    assert set(described.split) == {"publisher_1", "publisher_2", "publisher_3", "advertiser"}
    lower_right = source.read(described.split["advertiser"], tmp_path).to_numpy().reshape(7, 14, 14)
    assert np.array_equal(lower_right, images[:, 14:, 14:])
    upper_right = source.read(described.split["publisher_2"], tmp_path).to_numpy().reshape(7, 14, 14)
    assert np.array_equal(upper_right, images[:, :14, 14:])
    assert source.labels(tmp_path).tolist() == list(range(7))
    assert source.test_rows(tmp_path).tolist() == [False] * 5 + [True] * 2


def test_parts_of_a_picture_are_disjoint_and_whole():
    names = pixel_names(6, 4, 3)
    for parts, parties in (("halves", 2), ("quadrants", 4)):
        held = cut_pixels(names, 6, 4, parts)
        assert len(held) == parties
        assert sorted(name for pixels in held.values() for name in pixels) == sorted(names)
        assert len({len(pixels) for pixels in held.values()}) == 1


REAL = {
    "alimama": (27_668, 0.0193),
    "criteo": (10_000, 0.2182),
    "criteo_attribution": (165_152, 0.3611),
    "avazu": (9_999, 0.1706),
    "talkingdata": (100_000, 0.00227),
    "bank_marketing": (45_211, 0.1170),
    "credit_default": (30_000, 0.2212),
    "give_credit": (30_000, 0.067),
}


@pytest.mark.parametrize("name", REAL)
def test_real_sets_have_the_rows_and_positives_that_are_known_of_them(vfl_data, name):
    source = build("data", name)
    try:
        described: Described = source.describe(vfl_data)
    except DataError as error:
        pytest.skip(str(error))
    rows, positives = REAL[name]
    assert described.rows == rows
    labels = source.labels(vfl_data)
    assert labels.mean() == pytest.approx(positives, abs=5e-5)
    frame = source.read(described.columns, vfl_data)
    assert frame.shape == (rows, len(described.columns))
    assert not frame.isna().all().any()
    assert sorted(name for columns in described.split.values() for name in columns) == sorted(described.columns)
    assert all(frame[name].dtype == np.float64 for name in described.numeric)
