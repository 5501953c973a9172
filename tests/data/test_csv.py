"""Own tables: what is inferred and refused, and a run on two files against pandas' own join."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pandas as pd
import pytest
import torch
from harness import config, train
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.cli import main
from experiments.plan import open_world, party_specs
from experiments.run import data_hash
from parties.judging import judge, open_truth
from parties.local import make_party
from parties.settle import leftover
from vfl import checkpoint
from vfl.align import Alignment
from vfl.data.csv import Csv, _cached
from vfl.data.keys import ids_of, places
from vfl.data.shard import load_features, load_ids, load_labels
from vfl.errors import ConfigError, DataError
from vfl.registry import build
from vfl.seeds import Seeds
from vfl.types import Role

MARK = b"\xef\xbb\xbf"


def people(rows: int = 400, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    x, z = rng.normal(size=(2, rows))
    return pd.DataFrame(
        {
            "id": [f"user-{place}" for place in range(rows)],
            "spent": x.round(4),
            "colour": rng.choice(["red", "green", "blue"], rows),
            "visits": z.round(4),
            "y": (x + z + rng.normal(size=rows) > 0).astype(int),
        }
    )


@pytest.fixture
def pair(tmp_path):
    """Two files of 320 rows that share 240 of 400 people, each in an order of its own."""
    whole = people()
    theirs = whole.iloc[:320][["id", "spent", "colour"]].sample(frac=1, random_state=1)
    own = whole.iloc[80:][["id", "visits", "y"]].sample(frac=1, random_state=2)
    theirs.to_csv(tmp_path / "a.csv", index=False)
    own.to_csv(tmp_path / "b.csv", index=False)
    return tmp_path, theirs.reset_index(drop=True), own.reset_index(drop=True)


def spec(folder, **changed):
    files = {"publisher": str(folder / "a.csv"), "advertiser": str(folder / "b.csv")}
    return {"name": "csv", **files, "key": "id", "label": "y", **changed}


def source(folder, **changed) -> Csv:
    return build("data", spec(folder, **changed))


def test_types_rows_and_classes_are_told(pair):
    folder, _, _ = pair
    described = source(folder).describe(None)
    assert described.split == {"publisher": ("spent", "colour"), "advertiser": ("visits",)}
    assert set(described.numeric) == {"spent", "visits"}
    assert described.categorical == ("colour",)
    assert described.held == {"publisher": 320, "advertiser": 320}
    assert described.classes == ("0", "1")


def test_values_and_labels_are_those_of_the_files_in_their_order(pair):
    folder, theirs, own = pair
    read = source(folder)
    assert read.of("publisher").read(["colour", "spent"], None)["colour"].tolist() == theirs["colour"].tolist()
    assert read.of("publisher").read(["spent"], None)["spent"].tolist() == theirs["spent"].tolist()
    assert read.labels(None).tolist() == own["y"].tolist()
    shared = set(theirs["id"]) & set(own["id"])
    ids = {party: ids_of(read.of(party).keys(None)) for party in ("publisher", "advertiser")}
    assert len(np.intersect1d(ids["publisher"], ids["advertiser"])) == len(shared) == 240


def shard_of(asked, party):
    specs = party_specs(asked, open_world(asked), None)
    return next(each.shard for each in specs if each.party == party)


def run(folder, out, **changed):
    asked = config(data=spec(folder), align={"name": "plain", **changed}, train={"epochs": 1, "batch_size": 32})
    fitted = train(asked, out)
    order = checkpoint.load(out / "referee" / "order.safetensors")[0]["order"]
    return asked, fitted, order


def test_a_run_joins_rows_by_key_as_pandas_does(pair, tmp_path):
    folder, theirs, own = pair
    asked, fitted, _ = run(folder, tmp_path / "run")
    joined = own.merge(theirs, on="id")
    report = fitted.reports["advertiser"]
    assert sum(report[pool] for pool in ("train", "valid", "test")) == len(joined) == 240
    assert report["held/advertiser"] == report["held/publisher"] == 80
    shard = shard_of(asked, "advertiser")
    truth, found = open_truth(shard, str(tmp_path / "run" / "referee"), 2)
    place = {key: row for row, key in enumerate(ids_of(own["id"]).tolist())}
    expected = [own["y"].iloc[place[key]] for key in found.ids.tolist()]
    assert truth.labels.open().tolist() == expected
    publisher = load_features(shard_of(asked, "publisher"))
    columns = publisher.frame.iloc[places(publisher.ids, found.ids.numpy())]
    merged = own.iloc[[place[key] for key in found.ids.tolist()]].merge(theirs, on="id")
    assert columns["spent"].tolist() == merged["spent"].tolist()


def test_the_joint_model_is_the_central_one_on_rows_of_ones_own(pair, tmp_path):
    folder, _, _ = pair
    asked, _, _ = run(folder, tmp_path / "run", overlap=0.6)
    specs = [each for each in party_specs(asked, open_world(asked), tmp_path / "run") if each.role != Role.REFEREE]
    figures = judge(specs, str(tmp_path / "run" / "referee"), ["advertiser_alone", "central"], Seeds(0))
    assert figures["utility"]["test"]["auc"] == figures["utility"]["central"]["auc"]
    assert figures["utility"]["test"]["auc"] != figures["utility"]["advertiser_alone"]["auc"]


@pytest.mark.parametrize("overlap", [1.0, 0.5, 0.25])
def test_overlap_applies_to_the_rows_found_shared(pair, tmp_path, overlap):
    folder, _, _ = pair
    _, whole, _ = run(folder, tmp_path / "whole")
    asked, fitted, order = run(folder, tmp_path / "run", overlap=overlap)
    full, report = whole.reports["advertiser"], fitted.reports["advertiser"]
    assert report["train"] == round(overlap * full["train"])
    assert (report["valid"], report["test"]) == (full["valid"], full["test"])
    dealt = full["train"] - report["train"]
    gained = [report[f"held/{party}"] - full[f"held/{party}"] for party in ("publisher", "advertiser")]
    assert sum(gained) == dealt
    assert abs(gained[0] - gained[1]) <= 1
    assert len(order) == 240, "the alignment itself found all of them"
    _, found = open_truth(shard_of(asked, "advertiser"), str(tmp_path / "run" / "referee"), 2)
    assert found.sizes == (report["train"], report["valid"], report["test"])
    everyone = torch.cat([found.ids, *found.dealt.values()])
    own = torch.from_numpy(load_ids(shard_of(asked, "advertiser")))[order[:, 0]]
    assert everyone.sort().values.tolist() == own.sort().values.tolist()


def test_the_advertiser_keeps_labels_of_no_test_row(pair):
    folder, _, _ = pair
    asked = config(data=spec(folder), align={"name": "plain"})
    world = open_world(asked)
    made = make_party(party_specs(asked, world, None)[-2])
    player = made.player

    pools = torch.from_numpy(world.cut.pools()).long()
    handles = torch.argsort(pools, stable=True)
    train, valid, test = (int((pools == code).sum()) for code in range(3))
    player._align._side.alignment = Alignment(handles, train, valid, test, torch.empty(0, dtype=torch.int64))
    player.prepare()
    known = player.labels(torch.arange(len(pools)))
    assert (known[train + valid :] == -1).all()
    assert (known[: train + valid] >= 0).all()


def test_time_holdout_is_over_the_advertisers_rows(pair, tmp_path):
    folder, _, own = pair
    asked = config(
        data=spec(folder),
        align={"name": "plain"},
        holdout={"by": {"time": "visits"}, "test": 0.25, "valid": 0.0},
        train={"epochs": 1, "batch_size": 32},
    )
    train(asked, tmp_path / "run")
    cut = open_world(asked).cut
    tested = own["visits"][cut.pools() == 2]
    assert tested.min() >= own["visits"][cut.pools() == 0].max()
    order = checkpoint.load(tmp_path / "run" / "referee" / "order.safetensors")[0]["order"]
    late = np.flatnonzero(cut.pools() == 2)
    assert set(order[order[:, 1] == 2][:, 0].tolist()) <= set(late.tolist())


@pytest.mark.parametrize(("by", "kept"), [("random", 80), ("stratified", 80), ({"time": "visits"}, None)])
def test_rows_drawn_for_a_test_train_where_only_the_advertiser_holds_them(pair, tmp_path, by, kept):
    """By time they do not: they lie after the rows that train."""
    folder, _, own = pair
    asked = config(
        data=spec(folder), align={"name": "plain"}, holdout={"by": by}, train={"epochs": 1, "batch_size": 32}
    )
    train(asked, tmp_path / "run")
    cut, shard = open_world(asked).cut, shard_of(asked, "advertiser")
    _, found = open_truth(shard, str(tmp_path / "run" / "referee"), 2)
    late = (cut.pools() > 0) & own["id"].isin([f"user-{place}" for place in range(320, 400)]).to_numpy()
    assert len(leftover(shard, torch.from_numpy(load_ids(shard)), found)) == (kept or 80 - late.sum())
    if by == "stratified":
        tested = own["y"][cut.pools() == 2]
        assert tested.sum() == pytest.approx(own["y"].mean() * len(tested), abs=2)


def test_what_is_common_cannot_be_drawn_by_class_of_files(pair):
    folder, _, _ = pair
    with pytest.raises(ConfigError, match=r"align\.stratified: got true for csv, allowed for sets that are cut here"):
        open_world(config(data=spec(folder), align={"stratified": True}))


def test_many_publishers_each_bring_a_file(tmp_path):
    whole = people()
    for name, part in (("one", whole.iloc[:300][["id", "spent"]]), ("two", whole.iloc[100:][["id", "colour"]])):
        part.to_parquet(tmp_path / f"{name}.parquet")
    whole[["id", "visits", "y"]].to_feather(tmp_path / "b.arrow", compression="uncompressed")
    files = {"one": str(tmp_path / "one.parquet"), "two": str(tmp_path / "two.parquet")}
    data = spec(tmp_path, publisher=files, advertiser=str(tmp_path / "b.arrow"))
    fitted = train(config(data=data, align={"name": "plain"}, train={"epochs": 1, "batch_size": 64}), tmp_path / "run")
    report = fitted.reports["advertiser"]
    assert sum(report[pool] for pool in ("train", "valid", "test")) == 200
    assert report["held/advertiser+one"] == report["held/advertiser+two"] == 100


def test_gzip_tabs_and_semicolons_read_alike(pair):
    folder, theirs, _ = pair
    expected = source(folder).of("publisher").read(["spent", "colour"], None)
    text = theirs.to_csv(index=False, sep="\t")
    (folder / "a.tsv.gz").write_bytes(gzip.compress(text.encode()))
    theirs.to_csv(folder / "semicolons.csv", index=False, sep=";")
    for name in ("a.tsv.gz", "semicolons.csv"):
        found = source(folder, publisher=str(folder / name)).of("publisher").read(["spent", "colour"], None)
        pd.testing.assert_frame_equal(found, expected)


@pytest.mark.parametrize("packed", [False, True])
def test_a_byte_order_mark_at_the_start_is_dropped(pair, packed):
    """Spreadsheets write one, and the key may stand first: values, keys and names are those of the file without it."""
    folder, _, _ = pair
    plain, content = source(folder).of("publisher"), MARK + (folder / "a.csv").read_bytes()
    marked = folder / ("marked.csv.gz" if packed else "marked.csv")
    marked.write_bytes(gzip.compress(content) if packed else content)
    found = source(folder, publisher=str(marked)).of("publisher")
    assert list(found.keys(None)) == list(plain.keys(None))
    assert found.describe(None).columns == plain.describe(None).columns
    pd.testing.assert_frame_equal(found.read(["spent", "colour"], None), plain.read(["spent", "colour"], None))


def test_missing_cells_are_missing_in_every_spelling(pair):
    folder, theirs, _ = pair
    theirs = theirs.astype({"spent": object})
    theirs.loc[:4, "spent"] = ["", "NA", "nan", "null", "None"]
    theirs.loc[:1, "colour"] = ["", "N/A"]
    theirs.to_csv(folder / "a.csv", index=False)
    frame = source(folder).of("publisher").read(["spent", "colour"], None)
    assert frame["spent"].isna().sum() == 5
    assert frame["colour"].isna().sum() == 2


def test_leading_zeros_make_a_code_and_types_override(pair):
    folder, theirs, _ = pair
    theirs.assign(zip=[f"0{place:04}" for place in range(320)], cents=range(320)).to_csv(folder / "a.csv", index=False)
    described = source(folder).of("publisher").describe(None)
    assert "zip" in described.categorical
    assert "cents" in described.numeric
    chosen = source(folder, types={"publisher.cents": "categorical", "zip": "numeric"}).of("publisher").describe(None)
    assert "cents" in chosen.categorical
    assert "zip" in chosen.numeric


@pytest.mark.parametrize(("duplicates", "kept"), [("first", 1.5), ("last", 2.5)])
def test_duplicates_keep_the_row_that_was_asked_for_and_are_counted(pair, duplicates, kept):
    folder, theirs, _ = pair
    again = pd.concat([theirs, theirs.iloc[:1].assign(spent=2.5)])
    again.iloc[0, 1] = 1.5
    again.to_csv(folder / "a.csv", index=False)
    read = source(folder, duplicates=duplicates)
    table = read.of("publisher")
    place = ids_of(table.keys(None)).tolist().index(ids_of([theirs["id"].iloc[0]])[0])
    assert table.read(["spent"], None)["spent"].iloc[place] == kept
    assert read.describe(None).notes == ("a.csv: 1 of 321 rows repeat a key and were left out",)


def broken(folder, name, edit):
    lines = (folder / name).read_text().splitlines()
    (folder / name).write_text("\n".join(edit(lines)) + "\n")


def set_cell(row, place, value):
    def edit(lines):
        cells = lines[row].split(",")
        cells[place] = value
        return [*lines[:row], ",".join(cells), *lines[row + 1 :]]

    return edit


@pytest.mark.parametrize(
    ("name", "edit", "told"),
    [
        ("a.csv", lambda lines: [lines[0].replace("id", "user"), *lines[1:]], r"a\.csv: id: no such column"),
        (
            "a.csv",
            lambda lines: [*lines, lines[3]],
            r"a\.csv: id: got 'user-\d+' in rows 3 and 321, allowed each key once",
        ),
        ("a.csv", set_cell(7, 0, ""), r"a\.csv: id: got no key in row 7"),
        ("a.csv", set_cell(9, 1, "much"), r"a\.csv: spent: got 'much' in row 9, allowed finite numbers"),
        ("b.csv", set_cell(6, 1, "-inf"), r"b\.csv: visits: got '-inf' in row 6, allowed finite numbers"),
        (
            "a.csv",
            lambda lines: [lines[0].replace("spent", "y"), *lines[1:]],
            r"a\.csv: y: got the label in a publisher",
        ),
        ("a.csv", lambda lines: [lines[0].replace("spent", "colour"), *lines[1:]], r"a\.csv: colour: .*twice"),
        ("a.csv", lambda lines: [lines[0].replace("spent", ""), *lines[1:]], r"a\.csv: column 2: got no name"),
        ("a.csv", lambda lines: [*lines[:5], lines[5] + ",1", *lines[6:]], r"a\.csv: got 4 values in row 5, allowed 3"),
        ("a.csv", lambda lines: lines[:1], r"a\.csv: id: got 0 rows|a\.csv: got 0 rows"),
        ("b.csv", set_cell(4, 2, ""), r"b\.csv: y: got no label in row 4 and 1 of 320 rows"),
        ("b.csv", lambda lines: [lines[0].replace("y", "z"), *lines[1:]], r"b\.csv: y: no such column"),
    ],
)
def test_faults_are_refused_by_file_column_and_row(pair, name, edit, told):
    folder, _, _ = pair
    broken(folder, name, edit)
    with pytest.raises(DataError, match=told):
        source(folder).describe(None)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", r"a\.csv: got an empty file"),
        ("id,spent\n1,2\n".encode("utf-16"), r"a\.csv: got UTF-16 text, allowed UTF-8"),
        (b"id,spent,colour\n1,2,red\n2,3,gr\xfcn\n", r"a\.csv: got text in row 2, column 'colour' that is not UTF-8"),
        (
            b'id,spent,colour\n1,2,"a\nb"\n2,3,gr\xfcn\n',
            r"a\.csv: got text in row 2, column 'colour' that is not UTF-8",
        ),
        (b'id,spent,colour\n1,2,b\n2,3,"a,\ngr\xfcn"\n', r"a\.csv: got text in row 2, column 'colour' that is not"),
        (b"id,gr\xfcn\n1,2\n", r"a\.csv: got a header that is not UTF-8"),
        (MARK + MARK + b"id,spent\n1,2\n", r"a\.csv: column 1: got a byte order mark in its name, allowed one at the"),
        (b"id,spent\n1,2\n" + MARK + b"2,3\n", r"a\.csv: id: got a byte order mark in row 2, allowed one at the start"),
        (b"red,id\na,1\n" + MARK + b"a,3\n", r"a\.csv: red: got a byte order mark in row 2"),
    ],
)
def test_encoding_faults_are_refused(pair, data, told):
    folder, _, _ = pair
    (folder / "a.csv").write_bytes(data)
    with pytest.raises(DataError, match=told):
        source(folder).describe(None)


def test_a_broken_archive_and_an_absent_file_are_refused(pair):
    folder, _, _ = pair
    (folder / "a.csv.gz").write_bytes(gzip.compress((folder / "a.csv").read_bytes())[:-40])
    with pytest.raises(DataError, match=r"a\.csv\.gz: cannot be read"):
        source(folder, publisher=str(folder / "a.csv.gz")).describe(None)
    with pytest.raises(DataError, match=r"absent\.csv: no such file, looked in"):
        source(folder, publisher=str(folder / "absent.csv")).describe(None)


def test_infinite_numbers_of_a_typed_file_are_refused_by_row(pair):
    folder, theirs, _ = pair
    theirs["spent"] = theirs["spent"].where(theirs.index != 4, np.inf)
    theirs.to_parquet(folder / "a.parquet")
    with pytest.raises(DataError, match=r"a\.parquet: spent: got inf in row 5, allowed finite numbers .*mend 1 such"):
        source(folder, publisher=str(folder / "a.parquet")).describe(None)


def test_a_number_too_large_to_train_on_is_refused_naming_its_file(pair, tmp_path):
    folder, _, _ = pair
    broken(folder, "a.csv", set_cell(6, 1, "1e300"))
    with pytest.raises(DataError, match=r"a\.csv: spent: got an infinite or far too large value"):
        run(folder, tmp_path / "run")


def test_who_drives_actors_reads_no_file_and_hears_of_faults_all_the_same(pair, monkeypatch):
    folder, _, _ = pair
    here = open_world(config(data=spec(folder)))
    monkeypatch.setattr("vfl.data.csv.batches", nothing_is_read)
    there = open_world(config(data=spec(folder), backend="ray"))
    assert there == here
    broken(folder, "b.csv", set_cell(4, 2, ""))
    with pytest.raises(DataError, match=r"b\.csv: y: got no label in row 4 and 1 of 320 rows"):
        open_world(config(data=spec(folder), backend="ray"))


def nothing_is_read(*asked):
    raise AssertionError(f"read {asked}")


def test_a_party_is_told_of_its_file_and_does_not_go_through_it_again(pair, monkeypatch):
    folder, theirs, own = pair
    asked = config(data=spec(folder))
    shards = {party: shard_of(asked, party) for party in ("publisher", "advertiser")}
    monkeypatch.setattr("vfl.data.csv.CsvTable.described", nothing_is_read)
    _cached.cache_clear()
    assert load_features(shards["publisher"]).frame["colour"].tolist() == theirs["colour"].tolist()
    assert load_labels(shards["advertiser"]).tolist() == own["y"].tolist()


def test_a_label_that_came_after_the_run_began_is_refused(pair):
    folder, _, _ = pair
    shard = shard_of(config(data=spec(folder)), "advertiser")
    broken(folder, "b.csv", set_cell(4, 2, "7"))
    with pytest.raises(DataError, match=r"b\.csv: y: got the label '7', which was not there when the run began"):
        load_labels(shard)


def test_ids_are_hashed_once_while_a_file_stays_as_it_is(pair, monkeypatch):
    folder, theirs, _ = pair
    shard = shard_of(config(data=spec(folder)), "publisher")
    first = load_ids(shard).tolist()
    assert first == ids_of(theirs["id"]).tolist()
    with monkeypatch.context() as patched:
        patched.setattr("vfl.data.shard.ids_of", nothing_is_read)
        assert load_ids(shard).tolist() == first
    broken(folder, "a.csv", lambda lines: [lines[0], "someone,1.0,red", *lines[2:]])
    assert load_ids(shard).tolist()[1:] == first[1:]
    assert load_ids(shard).tolist()[0] != first[0]


REFUSALS = [
    ("a.csv", lambda lines: [lines[0].replace("id", "user"), *lines[1:]], "a.csv: id: no such column"),
    ("a.csv", lambda lines: [*lines, lines[3]], "rows 3 and 321"),
    ("b.csv", lambda lines: [lines[0], *(f"x{line}" for line in lines[1:])], "got 0 shared rows to train on"),
    ("b.csv", set_cell(4, 2, ""), "b.csv: y: got no label in row 4"),
    ("b.csv", set_cell(4, 1, "often"), "b.csv: visits: got 'often' in row 4"),
    ("a.csv", lambda lines: [lines[0], "\ufeff" + lines[1], *lines[2:]], "a.csv: id: got a byte order mark in row 1"),
]


@pytest.mark.parametrize(("name", "edit", "told"), REFUSALS)
def test_the_command_refuses_in_one_line_and_leaves_nothing_behind(pair, capsys, name, edit, told):
    folder, _, _ = pair
    broken(folder, name, edit)
    command = [
        "simulate",
        "--backend",
        "local",
        "--out",
        str(folder / "run"),
        "--set",
        f"data={json.dumps(spec(folder))}",
    ]
    code = main([*command, "--set", "train.epochs=1", "--set", "attack=[]", "--json"])
    said = capsys.readouterr()
    assert (code, said.out) == (2, "")
    assert told in said.err.strip().splitlines()[-1]
    assert not (folder / "run").exists()


def test_tables_without_a_common_key_are_refused_naming_both_files(pair, tmp_path):
    folder, theirs, _ = pair
    theirs.assign(id=theirs["id"] + ".0").to_csv(folder / "a.csv", index=False)
    with pytest.raises(DataError, match=r"a\.csv, .*b\.csv: id: got 0 shared rows to train on"):
        run(folder, tmp_path / "run")


def test_another_content_is_another_run_and_the_same_content_elsewhere_is_not(pair, tmp_path):
    folder, theirs, _ = pair
    first = data_hash(open_world(config(data=spec(folder), align={"name": "plain"})))
    theirs.assign(spent=theirs["spent"] + 1).to_csv(folder / "a.csv", index=False)
    second = data_hash(open_world(config(data=spec(folder), align={"name": "plain"})))
    theirs.to_csv(folder / "a.csv", index=False)
    assert first != second
    assert data_hash(open_world(config(data=spec(folder), align={"name": "plain"}))) == first


def test_three_classes_are_sorted_as_numbers(pair):
    folder, _, own = pair
    own.assign(y=np.resize([2, 10, 9], 320)).to_csv(folder / "b.csv", index=False)
    assert source(folder).describe(None).classes == ("2", "9", "10")
    assert source(folder).labels(None).tolist() == np.resize([0, 2, 1], 320).tolist()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(min_size=1), unique=True, max_size=30), st.randoms())
def test_ids_stand_for_keys_whatever_their_text(keys, shuffled):
    other = list(keys)
    shuffled.shuffle(other)
    ids = ids_of(keys)
    assert (ids >= 0).all()
    assert len(set(ids.tolist())) == len(keys)
    assert [keys[place] for place in places(ids, ids_of(other))] == other


def test_labels_of_the_source_are_whole_and_checked(pair):
    folder, _, own = pair
    shard = shard_of(config(data=spec(folder), align={"name": "plain"}), "advertiser")
    assert load_labels(shard).tolist() == own["y"].tolist()


@pytest.mark.parametrize("task", ["breast", "default_credit", "vehicle_scale"])
def test_fate_pairs_are_read_unchanged_by_csv(vfl_data, task):
    found = sorted((vfl_data / "fate_vfl").glob(f"{task}_hetero_*"))
    if len(found) != 2:
        pytest.skip("needs FATE's hetero pairs in the folder fate_vfl of VFL_DATA")
    guest, host = found
    described = Csv(publisher=str(host), advertiser=str(guest), key="id", label="y").describe(None)
    raw = pd.read_csv(guest), pd.read_csv(host)
    assert described.held == {"publisher": len(raw[1]), "advertiser": len(raw[0])}
    assert described.categorical == ()
    assert len(described.classes) == raw[0]["y"].nunique()
