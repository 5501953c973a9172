"""`vfl data` as a person calls it."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pandas as pd
import pooch
import pytest
import requests
from harness import config, train

from experiments.cli import main
from experiments.data_tables import generate
from experiments.fetching import REMOTE, Remote, fetch
from vfl.data.synthetic_ads import TRUTH
from vfl.errors import DataError, UserError
from vfl.registry import build


def say(capsys, *arguments) -> dict:
    assert main(["data", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.fixture(autouse=True)
def nowhere(tmp_path, monkeypatch):
    """No data set's files are there, unless a test puts them."""
    monkeypatch.setenv("VFL_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


def test_the_list_says_what_is_there_and_what_goes_where(capsys, nowhere):
    found = {entry["name"]: entry for entry in say(capsys, "list")}
    assert found["adult"]["rows"] == 48_842
    assert found["avazu"]["rows"] is None
    assert str(nowhere / "avazu") in found["avazu"]["note"]
    assert "name publisher" in found["csv"]["note"]


def test_a_description_counts_classes_and_names_each_column_once(capsys):
    told = say(capsys, "describe", "adult")
    assert told["classes"] == {"<=50K": 37_155, ">50K": 11_687}
    columns = told["parties"]["publisher"]["columns"]
    assert columns["age"] == {"type": "numeric", "missing": 0.0, "distinct": 74}
    assert columns["native_country"]["type"] == "categorical"
    assert columns["native_country"]["missing"] == pytest.approx(857 / 48_842)


def test_a_description_of_own_files_shows_types_and_dropped_rows(capsys, tmp_path):
    table = pd.DataFrame({"id": ["a", "b", "c", "c"], "x": [1, 2, 3, 4], "y": [0, 1, 0, 1]})
    table[["id", "x"]].to_csv(tmp_path / "a.csv", index=False)
    table[["id", "y"]].to_csv(tmp_path / "b.csv", index=False)
    files = {"publisher": str(tmp_path / "a.csv"), "advertiser": str(tmp_path / "b.csv"), "key": "id", "label": "y"}
    sets = [f"data.{key}={value}" for key, value in {**files, "duplicates": "first"}.items()]
    told = say(capsys, "describe", "csv", *(part for text in sets for part in ("--set", text)))
    assert told["parties"]["publisher"] == {
        "rows": 3,
        "columns": {"x": {"type": "numeric", "missing": 0.0, "distinct": 3}},
    }
    assert told["notes"][0] == "a.csv: 1 of 4 rows repeat a key and were left out"


def test_a_refusal_is_one_line_with_the_file(capsys, tmp_path):
    (tmp_path / "a.csv").write_text("")
    (tmp_path / "b.csv").write_text("id,y\n1,0\n2,1\n")
    data = f"{{name: csv, publisher: {tmp_path}/a.csv, advertiser: {tmp_path}/b.csv, key: id, label: y}}"
    assert main(["data", "describe", "--set", f"data={data}"]) == 2
    told = capsys.readouterr().err
    assert told == f"vfl: {tmp_path}/a.csv: got an empty file, allowed a header and rows; check how it was written\n"


def test_a_split_shows_pools_and_columns_and_writes_files_that_csv_joins(capsys, tmp_path):
    out = tmp_path / "cut"
    told = say(capsys, "split", "breast_cancer", "--set", "align.overlap=0.5", "--out", str(out))
    assert sum(told["pools"].values()) == 569
    read = build(
        "data",
        {
            "name": "csv",
            "publisher": str(out / "publisher.parquet"),
            "advertiser": str(out / "advertiser.parquet"),
            "key": "id",
            "label": "diagnosis",
        },
    )
    described = read.describe(None)
    assert described.held == {party: told["parties"][party]["rows"] for party in ("publisher", "advertiser")}
    assert described.classes == ("benign", "malignant")
    ids = [set(read.of(party).keys(None)) for party in described.held]
    common = round(0.5 * told["pools"]["train"]) + told["pools"]["valid"] + told["pools"]["test"]
    assert len(ids[0] & ids[1]) == common
    assert set(described.split["publisher"]) == set(told["parties"]["publisher"]["columns"])


def test_generated_files_overlap_as_far_as_was_asked(capsys, tmp_path):
    """20,000 rows: 0.6 in both, 0.2 in each alone, within four standard deviations; a row that both hold is one."""
    told = say(capsys, "generate", str(tmp_path / "ads"), "--set", "rows=20000", "--overlap", "0.6")
    publisher, advertiser, truth = (
        pd.read_parquet(told["files"][name]) for name in ("publisher", "advertiser", "truth")
    )
    both = publisher.merge(advertiser, on="request_id").merge(truth, on="request_id", suffixes=("", "_true"))
    spread = 4 * np.sqrt(0.24 * 20_000)
    assert abs(len(both) - 12_000) < spread
    assert len(publisher) + len(advertiser) - len(both) == len(truth) == 20_000
    assert abs(len(publisher) - 16_000) < spread
    assert both["converted"].tolist() == both["converted_true"].tolist()
    assert main(["data", "generate", str(tmp_path / "no"), "--overlap", "1.5"]) == 2
    assert "--overlap: got 1.5, allowed 0 to 1" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()


def test_generated_files_are_the_set_itself_and_train(capsys, tmp_path):
    told = say(capsys, "generate", str(tmp_path / "ads"), "--set", "rows=70000", "--set", "cvr=0.05")
    assert told["synthetic"] is True
    source = build("data", {"name": "synthetic_ads", "rows": 70_000, "cvr": 0.05})
    tables = {name: pd.read_parquet(path) for name, path in told["files"].items()}
    assert tables["advertiser"]["converted"].tolist() == source.labels(None).tolist()
    assert tables["publisher"]["pages"].tolist() == source.read(["pages"], None)["pages"].tolist()
    assert set(TRUTH) <= set(tables["truth"].columns)
    assert not set(TRUTH) & set(tables["publisher"].columns)
    asked = config(
        data=told["data"], align={"name": "plain"}, train={"epochs": 1, "batch_size": 8192}, record={"every": 0}
    )
    report = train(asked, tmp_path / "run").reports["advertiser"]
    assert sum(report[pool] for pool in ("train", "valid", "test")) == 70_000


def test_generating_refuses_a_folder_that_is_not_empty_and_an_unknown_option(capsys, tmp_path):
    (tmp_path / "kept").write_text("")
    assert main(["data", "generate", str(tmp_path)]) == 2
    assert main(["data", "generate", str(tmp_path / "new"), "--set", "cvrr=1"]) == 2
    assert "no option of data 'synthetic_ads' named 'cvrr'; did you mean 'cvr'?" in capsys.readouterr().err


def test_options_of_generate_reach_the_generator(tmp_path):
    found = generate({"rows": 10, "users": 1}, tmp_path)
    assert set(pd.read_parquet(found["files"]["publisher"])["user_id"]) == {"u0"}


def test_fetched_files_lie_where_their_set_looks_and_are_checked(tmp_path, monkeypatch):
    table = "id,y,x0\n1,0,2\n2,1,3\n"
    checksum = hashlib.sha256(table.encode()).hexdigest()
    remote = Remote("https://example.org/breast_hetero_guest.csv", f"sha256:{checksum}", "fate")
    monkeypatch.setitem(REMOTE, "fate", (remote,))
    served = {"text": table}

    def download(self, url, output_file, pooch_):
        with open(output_file, "w") as file:
            file.write(served["text"])

    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", download)
    found = fetch("fate", tmp_path)
    assert found["files"] == [str(tmp_path / "fate" / "breast_hetero_guest.csv")]
    (tmp_path / "fate" / "breast_hetero_guest.csv").unlink()
    served["text"] = "tampered"
    with pytest.raises(DataError, match="its checksum differs"):
        fetch("fate", tmp_path)


def test_no_network_says_where_to_put_the_file(tmp_path, monkeypatch):
    def refuse(self, url, output_file, pooch_):
        raise requests.ConnectionError("no route")

    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", refuse)
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte.gz \(no connection\); fetch it yourself") as caught:
        fetch("mnist", tmp_path)
    assert str(caught.value).endswith(f"put it into {tmp_path / 'mnist'}")


def test_sets_behind_an_account_say_which_file_goes_where(tmp_path):
    with pytest.raises(DataError, match=r"put train\.gz of Kaggle's avazu.*asks for an account"):
        fetch("avazu", tmp_path)
    with pytest.raises(UserError, match="did you mean 'avazu'"):
        fetch("avazuu", tmp_path)
    with pytest.raises(UserError, match="without files of its own"):
        fetch("adult", tmp_path)
