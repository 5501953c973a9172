"""A finished run at work: the test's own figure again, new rows from files, and a party that stays away."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from harness import config

from experiments.cli import main
from experiments.predict import Asked, predict
from experiments.progress import Silent
from experiments.run import simulate
from vfl.data.breast_cancer import BreastCancer
from vfl.errors import UserError
from vfl.store import envelopes

pytestmark = pytest.mark.usefixtures("shared_isolation")

SPLIT = {
    "name": "columns",
    "one": ["mean_radius", "mean_texture", "worst_perimeter"],
    "two": ["mean_area", "worst_concavity"],
    "advertiser": ["worst_smoothness"],
}
TEST_ROWS = Asked({}, None, ())


@pytest.fixture(scope="module")
def finished(tmp_path_factory, warm_isolation):
    folder = tmp_path_factory.mktemp("predict") / "run"
    asked = config(split=SPLIT, train={"epochs": 10, "batch_size": 32}, model={"embedding_dim": 8})
    return folder, simulate(asked, folder, ray_address=None, resume=None, progress=Silent())


def test_the_runs_own_test_rows_get_the_figure_of_the_run(finished):
    folder, row = finished
    found = predict(folder, TEST_ROWS, None)
    assert found["auc"] == pytest.approx(row["utility"]["test"]["auc"], abs=1e-12)
    assert found["rows"] == 142


def test_an_absent_publisher_costs_what_its_mean_embedding_in_its_place_costs(finished):
    """Computed by hand: the advertiser's top on what the others embed, and one row in the absent one's place."""
    import torch
    from sklearn.metrics import roc_auc_score

    from experiments.plan import open_world, party_specs
    from parties.serving import Trained
    from vfl import checkpoint

    folder, _ = finished
    found = predict(folder, Asked({}, None, ("one",)), None)
    asked = config(split=SPLIT, train={"epochs": 10, "batch_size": 32}, model={"embedding_dim": 8})
    specs = {spec.party: spec for spec in party_specs(asked, open_world(asked), folder)}
    parties = {party: folder / "parties" / party for party in ("one", "two", "advertiser")}
    tensors = {party: checkpoint.load(path / "checkpoints" / "final.safetensors")[0] for party, path in parties.items()}
    places = {party: Trained([], parties).test_rows(party) for party in parties}
    embedded = {}
    for party in ("two", "advertiser"):
        from vfl.data.encode import Encoder
        from vfl.data.shard import load_features
        from vfl.types import Batch

        encoder = Encoder.from_json((parties[party] / "encoder.json").read_text())
        numeric, categorical = encoder.transform(load_features(specs[party].shard).frame.iloc[places[party].numpy()])
        bottom = specs[party].model.build_bottom(encoder.schema, specs[party].role, party, specs[party].seeds)
        own = {key[len("bottom.") :]: value for key, value in tensors[party].items() if key.startswith("bottom.")}
        bottom.load_state_dict(own)
        embedded[party] = bottom(Batch(torch.arange(len(numeric)), numeric, categorical)).detach()
    top = specs["advertiser"].model.build_top(24, 2, specs["advertiser"].seeds)
    top.load_state_dict({key[4:]: value for key, value in tensors["advertiser"].items() if key.startswith("top.")})
    trained = int(tensors["advertiser"]["loose.counts"][0])
    received = (each for way, each in envelopes(parties["advertiser"] / "transcript") if way == "received")
    heard = [each.body for each in received if each.src == "one" and len(each.rows) and int(each.rows.max()) < trained]
    assert torch.equal(tensors["advertiser"]["heard.one"], heard[-1].mean(dim=0))
    mean = heard[-1].mean(dim=0).expand(len(embedded["two"]), -1)
    logits = top(torch.cat([mean, embedded["two"], embedded["advertiser"]], dim=1)).detach().flatten()
    labels = BreastCancer().labels(None)[places["advertiser"].numpy()]
    assert found["auc"] == pytest.approx(roc_auc_score(labels, logits.numpy()), abs=1e-9)
    assert found["with_everyone"]["lost"] == pytest.approx(found["with_everyone"]["auc"] - found["auc"])


def files(folder, rows=60):
    """Write some rows of the table as each party would bring them: in an order of its own, with rows of its own."""
    source = BreastCancer()
    table = source.read(list(source.describe(None).columns), None).iloc[:rows]
    table = table.assign(id=[f"user-{place}" for place in range(rows)])
    label = source.describe(None).label
    classes = source.describe(None).classes
    asked = {}
    for party, columns in SPLIT.items():
        if party == "name":
            continue
        own = table[["id", *columns]].sample(frac=1, random_state=len(party))
        if party == "advertiser":
            own = own.assign(**{label: [classes[int(each)] for each in source.labels(None)[own.index]]})
        else:
            own = own.iloc[: rows - 5]
        own.to_csv(folder / f"{party}.csv", index=False)
        asked[party] = folder / f"{party}.csv"
    return asked


def test_new_rows_of_every_party_are_joined_and_scored(finished, tmp_path, capsys):
    folder, _ = finished
    named = [part for party, path in files(tmp_path).items() for part in ("--file", f"{party}={path}")]
    out = tmp_path / "scores.csv"
    assert main(["predict", str(folder), *named, "--key", "id", "--out", str(out), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    scores = pd.read_csv(out)
    assert 50 <= found["rows"] == len(scores) < 60
    assert found["auc"] > 0.9
    assert set(scores.columns) == {"row", "p_0", "p_1"} or scores.filter(like="p_").shape[1] == 2
    assert scores.filter(like="p_").sum(axis=1).to_numpy() == pytest.approx(1.0, abs=1e-5)


def test_an_absent_publisher_needs_no_file(finished, tmp_path):
    folder, _ = finished
    given = {party: path for party, path in files(tmp_path).items() if party != "two"}
    found = predict(folder, Asked(given, "id", ("two",)), None)
    assert found["auc"] > 0.7
    assert "with_everyone" not in found


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--absent", "nobody"], "allowed one, two"),
        (["--absent", "advertiser"], "allowed one, two"),
        (["--file", "one"], "allowed PARTY=FILE"),
        (["--file", "one=x.csv"], "without a key"),
        (["--file", "nobody=x.csv", "--key", "id"], "allowed one, two, advertiser"),
        (["--file", "one=x.csv", "--key", "id"], "no file of two, advertiser"),
    ],
)
def test_what_cannot_be_predicted_is_one_line_and_exit_2(finished, capsys, arguments, told):
    assert main(["predict", str(finished[0]), *arguments]) == 2
    captured = capsys.readouterr().err
    assert told in captured
    assert len(captured.splitlines()) == 1


def test_a_run_that_has_not_finished_is_refused(tmp_path):
    with pytest.raises(UserError, match="no such run"):
        predict(tmp_path / "nothing", TEST_ROWS, None)


@pytest.fixture(scope="module")
def coded(tmp_path_factory, warm_isolation):
    """A run on files whose categories are written as numbers; the publisher's says most of the class."""
    folder = tmp_path_factory.mktemp("coded")
    rng = np.random.default_rng(0)
    code = rng.integers(10, 16, 600)
    bought = (rng.random(600) < np.array([0.1, 0.9, 0.1, 0.9, 0.1, 0.9])[code - 10]).astype(int)
    ids = [f"u{place}" for place in range(600)]
    pd.DataFrame({"id": ids, "code": code}).to_csv(folder / "a.csv", index=False)
    pd.DataFrame({"id": ids, "amount": rng.normal(size=600), "bought": bought}).to_csv(folder / "b.csv", index=False)
    data = {
        "name": "csv",
        "publisher": str(folder / "a.csv"),
        "advertiser": str(folder / "b.csv"),
        "key": "id",
        "label": "bought",
        "types": {"code": "categorical"},
    }
    asked = config(data=data, align="plain", train={"epochs": 30, "batch_size": 64, "lr": 0.01})
    simulate(asked, folder / "run", ray_address=None, resume=None, progress=Silent())
    return folder


def predicted(coded, publisher, advertiser):
    return predict(coded / "run", Asked({"publisher": publisher, "advertiser": advertiser}, "id", ()), None)


def test_a_category_written_as_a_number_is_read_from_new_files_as_it_was_in_training(coded):
    """Far above .5 only where the codes are words of the vocabulary: the advertiser's own column is noise."""
    found = predicted(coded, coded / "a.csv", coded / "b.csv")
    assert found["auc"] > 0.85
    assert found["unseen"] == {"publisher": 0.0, "advertiser": 0.0}


def test_values_that_training_never_saw_are_counted(coded, tmp_path):
    strange = pd.read_csv(coded / "a.csv").assign(code=lambda frame: frame["code"].where(frame["code"] != 10, 77))
    strange.to_csv(tmp_path / "a.csv", index=False)
    share = float((strange["code"] == 77).mean())
    assert predicted(coded, tmp_path / "a.csv", coded / "b.csv")["unseen"]["publisher"] == pytest.approx(share)


def test_parquet_files_and_labels_written_as_decimals_give_the_same_scores(coded, tmp_path):
    for name in ("a", "b"):
        frame = pd.read_csv(coded / f"{name}.csv")
        frame = frame.assign(bought=frame["bought"].astype(float)) if name == "b" else frame
        frame.to_parquet(tmp_path / f"{name}.parquet", index=False)
    plain = predicted(coded, coded / "a.csv", coded / "b.csv")
    other = predicted(coded, tmp_path / "a.parquet", tmp_path / "b.parquet")
    assert other["auc"] == plain["auc"]


def test_a_class_the_run_never_had_is_refused_naming_the_column(coded, tmp_path):
    frame = pd.read_csv(coded / "b.csv").assign(bought=lambda table: table["bought"].replace(1, 7))
    frame.to_csv(tmp_path / "b.csv", index=False)
    with pytest.raises(UserError, match="got class '7', allowed 0, 1"):
        predicted(coded, coded / "a.csv", tmp_path / "b.csv")
