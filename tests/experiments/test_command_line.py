"""The command line as a person meets it: its two streams, its exit code, and what it leaves behind.

A process of its own takes seconds to import torch, so only what is about the process itself starts one.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from experiments.cli import main

ROOT = Path(__file__).resolve().parents[2]
Done = subprocess.CompletedProcess[str]


@pytest.fixture
def here(tables: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """The command, called in this process from the folder of the two tables."""
    monkeypatch.chdir(tables)

    def call(*arguments: str) -> Done:
        code = main(list(arguments))
        return Done(arguments, code, *capsys.readouterr())

    return call


def process(folder: Path, *arguments: str) -> Done:
    command = [sys.executable, "-W", "ignore", "-m", "experiments.cli", *arguments]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    """Two files of 300 shared ids, and a configuration that trains a second or two on them."""
    rng = np.random.default_rng(0)
    ids, signal = np.arange(300), rng.normal(size=(300, 2))
    label = (signal.sum(axis=1) + rng.normal(size=300) > 0).astype(int)
    pd.DataFrame({"id": ids, "clicks": signal[:, 0]}).to_csv(tmp_path / "p.csv", index=False)
    pd.DataFrame({"id": ids, "visits": signal[:, 1], "y": label}).to_csv(tmp_path / "a.csv", index=False)
    (tmp_path / "run.yaml").write_text(
        "backend: local\ndata: {name: csv, publisher: p.csv, advertiser: a.csv, key: id, label: y}\n"
        "align: plain\ntrain: {epochs: 1, batch_size: 64}\nattack: [norm]\n"
    )
    return tmp_path


def change(folder: Path, name: str, **columns: object) -> None:
    frame = pd.read_csv(folder / name)
    frame.assign(**columns).to_csv(folder / name, index=False)


BAD: dict[str, tuple[list[str], str]] = {
    "unknown key": (["--set", "trian.epochs=1"], "--set: trian: no key named 'trian'; did you mean 'train'?"),
    "wrong type": (["--set", "train.epochs=one"], "--set: train.epochs: got 'one'"),
    "missing column": (
        ["--set", "split={name: columns, publisher: [clikcs], advertiser: [visits]}"],
        "split.publisher",
    ),
    "unknown defense": (["--set", "defense=[maxnorm]"], "no defense named 'maxnorm'; did you mean 'max_norm'?"),
    "option": (["--set", "attack.0={name: direction, hints: 0}"], "--set: attack.0: hints: got 0, allowed any whole"),
    "unreadable file": (["--set", "data.publisher=nowhere.csv"], "nowhere.csv: no such file"),
    "no aligned row": (
        ["--set", "align.overlap=0"],
        "shared rows to train on and 75 to test on",
    ),
    "an output that cannot be": (["--out", "a.csv/x"], "--out: a.csv/x: cannot be made (Not a directory)"),
    "nothing to choose by": (
        ["--set", "train.select=best_valid", "--set", "holdout.valid=0"],
        "train.select: got 'best_valid', allowed last",
    ),
}


def refused(done: Done) -> str:
    """Return the one line that a refusal prints, with nothing on stdout and no traceback."""
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr
    (line,) = [each for each in done.stderr.splitlines() if each.startswith("vfl: ")]
    return line


@pytest.mark.parametrize(("arguments", "says"), BAD.values(), ids=BAD)
def test_bad_input_is_one_line_and_leaves_nothing(tables: Path, here, arguments: list[str], says: str):
    before = sorted(tables.rglob("*"))
    assert says in refused(here("simulate", "run.yaml", "--json", *arguments))
    assert sorted(path for path in tables.rglob("*") if path.name != "runs") == before


def test_a_process_refuses_so_too(tables: Path):
    arguments, says = BAD["no aligned row"]
    assert says in refused(process(tables, "simulate", "run.yaml", "--json", *arguments))


def continuous(folder: Path) -> str:
    change(folder, "a.csv", y=np.linspace(0, 1, 300))
    return "a.csv: y: "


def single_class(folder: Path) -> str:
    change(folder, "a.csv", y=1)
    return "a.csv: y: "


def no_column(folder: Path) -> str:
    pd.read_csv(folder / "p.csv")[["id"]].to_csv(folder / "p.csv", index=False)
    return "p.csv: got no column beside the key, allowed one or more"


def infinite(folder: Path) -> str:
    change(folder, "p.csv", clicks=np.where(np.arange(300) == 7, np.inf, 1.5))
    return "p.csv: clicks: got 'inf' in row 8"


@pytest.mark.parametrize("spoil", [continuous, single_class, no_column, infinite])
def test_a_bad_table_is_named(tables: Path, here, spoil: object):
    says = spoil(tables)  # type: ignore[operator]
    assert says in refused(here("simulate", "run.yaml", "--json"))
    assert not (tables / "runs").exists() or not any((tables / "runs").iterdir())


def test_a_run_is_not_attacked_on_data_that_changed(tables: Path, here):
    """The run's own id and digest would stand beside figures that were scored against other labels."""
    assert here("simulate", "run.yaml", "--out", "run").returncode == 0
    attacked = here("attack", "run", "--attack", "norm", "--json")
    assert json.loads(attacked.stdout)["leakage"] == json.loads((tables / "run" / "row.json").read_text())["leakage"]
    change(tables, "a.csv", y=pd.read_csv(tables / "a.csv")["y"].to_numpy()[::-1])
    line = refused(here("attack", "run", "--attack", "norm", "--json"))
    assert "run: got data that changed since the run began, allowed the same" in line


def test_a_refused_run_leaves_an_empty_folder_of_its_user_and_takes_away_its_own(tables: Path, here):
    (tables / "mine").mkdir()
    for out in ("mine", "new/deep/er"):
        done = here("simulate", "run.yaml", "--set", "align.overlap=0", "--out", out)
        assert done.returncode == 2
    assert (tables / "mine").is_dir()
    assert not any((tables / "mine").iterdir())
    assert not (tables / "new").exists()


def test_check_refuses_what_a_run_refuses(here):
    assert here("config", "check", "run.yaml").returncode == 0
    for wrong in ("record.max_mb=0", "split={name: columns, publisher: [nothing], advertiser: [visits]}"):
        assert here("config", "check", "run.yaml", "--set", wrong).returncode == 2


def test_few_test_rows_give_no_interval(here):
    done = here("simulate", "run.yaml", "--set", "holdout.test=0.02", "--json")
    row = json.loads(done.stdout)
    assert row["gain"]["log_loss"]["value"] is not None
    assert (row["gain"]["log_loss"]["ci"], row["gain"]["log_loss"]["p"]) == (None, None)
    assert any("fewer than 20 test rows" in note for note in row["notes"])


@pytest.mark.ray
@pytest.mark.timeout(240)
def test_the_default_run_is_worth_it_and_leaks(tmp_path: Path):
    row = json.loads(process(tmp_path, "simulate", "--json").stdout)
    assert row["cost"]["path"] == "graph"
    assert row["utility"]["test"]["auc"] >= 0.90
    assert row["gain"]["auc"]["value"] >= 0.03
    assert row["leakage"]["norm"]["leak_auc"] >= 0.70


@pytest.mark.slow
def test_a_defense_hides_the_norm(tmp_path: Path):
    arguments = ["--backend", "local", "--set", "defense=[{name: marvell, s: 16}]", "--json"]
    row = json.loads(process(tmp_path, "simulate", *arguments).stdout)
    assert row["leakage"]["norm"]["leak_auc"] == pytest.approx(0.5, abs=0.06)
