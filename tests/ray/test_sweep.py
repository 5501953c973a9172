"""Sweeps end to end on a small table, in Ray workers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from experiments import results
from experiments.axes import read_sweep
from experiments.cli import main
from experiments.folder import SHAREABLE
from experiments.progress import Silent
from experiments.sweep import Trial, Workers, _outcome, resolve, run_trial, sweep
from parties.isolate import Isolation

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]
SWEEP = """
base:
  data: breast_cancer
  train: {epochs: 1, batch_size: 64}
  align: {name: ecdh_psi}
  attack: [norm]
  references: [advertiser_alone]
axes:
- seed: [0, 1]
- defense: [[], [{name: max_norm}]]
"""
TIMES = ("wall_s", "peak_rss_mb", "cost.wall_s", "cost.total_s")


def trials(folder: Path, text: str = SWEEP) -> list[Trial]:
    path = folder / "sweep.yaml"
    path.write_text(text)
    return [each.trial for each in resolve(read_sweep(path), str(path))]


def figures(out: Path):
    frame = results.load(out)
    return frame.drop(columns=[name for name in frame if name in TIMES or name.startswith("cost.peak_rss_mb")])


def test_order_does_not_matter_and_a_finished_sweep_has_nothing_to_do(ray_cluster: None, tmp_path: Path):
    """A trial must find nothing of the one before it in its worker, and what it shares must be what it would have made.

    Forwards, a seed's first trial aligns and trains the reference for those after it; backwards, its last one does.
    """
    found = trials(tmp_path)
    forward = sweep(found, tmp_path / "a", Workers(), False, Silent())
    sweep(found[::-1], tmp_path / "b", Workers(), False, Silent())
    assert (forward["trials"], forward["finished"], forward["failed"], forward["skipped"]) == (4, 4, 0, 0)
    assert figures(tmp_path / "a").equals(figures(tmp_path / "b"))
    assert figures(tmp_path / "a")["digest"].nunique() == 4
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["rows", "sweep.json", "trials"]
    again = sweep(found, tmp_path / "a", Workers(), True, Silent())
    assert (again["finished"], again["skipped"]) == (4, 4)


def test_a_failing_trial_leaves_its_error_and_stops_no_other(ray_cluster: None, tmp_path: Path):
    """Without overlap there is no row to train on, which is found out once the parties have aligned."""
    found, out = trials(tmp_path)[:2], tmp_path / "out"
    bad = found[0].config.model_copy(update={"align": found[0].config.align.model_copy(update={"overlap": 0.0})})
    counts = sweep([Trial("bad", bad), found[1]], out, Workers(), True, Silent())
    assert (counts["finished"], counts["failed"]) == (1, 1)
    rows = figures(out).set_index("trial")
    assert rows.loc["bad", "status"] == "failed"
    assert "align.overlap" in rows.loc["bad", "error"]
    assert rows.loc[found[1].key, "status"] == "ok"
    left = {path.name for path in out.glob("trials/*/*")}
    assert left <= set(SHAREABLE)


def test_a_worker_whose_isolation_died_gets_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The system may end it for its memory: that trial fails, and those after it do not."""
    warm: list[Isolation] = []
    monkeypatch.setattr("experiments.sweep._warm", warm)
    first, second = trials(tmp_path)[:2]
    assert run_trial(first.config, first.key, str(tmp_path)) == ""
    died = warm[0]
    died._referee.kill()
    died._referee.wait()
    assert run_trial(second.config, second.key, str(tmp_path)) == ""
    assert warm[0] is not died
    warm[0].close()


def test_rows_of_another_sweep_file_stay_and_are_left_out(ray_cluster: None, tmp_path: Path):
    """The file was changed: what it no longer asks for is in no table, and comes back with it."""
    first, out = trials(tmp_path)[:2], tmp_path / "out"
    sweep(first, out, Workers(), False, Silent(), "the file as it was")
    counts = sweep(first[1:], out, Workers(), True, Silent(), "the file as it is")
    assert (counts["trials"], counts["skipped"], results.left_out(out)) == (1, 1, 1)
    assert list(results.load(out)["trial"]) == [first[1].key]
    assert json.loads((out / results.LISTING).read_text()) == {"trials": [first[1].key], "file": "the file as it is"}
    sweep(first, out, Workers(), True, Silent())
    assert (len(results.load(out)), results.left_out(out)) == (2, 0)


def test_a_worker_that_dies_leaves_a_failed_row_and_no_row_of_anyone(ray_cluster: None, tmp_path: Path):
    """As the system ends a process that takes too much memory."""
    import ray

    trial, private = trials(tmp_path)[0], tmp_path / "out" / "trials"
    (private / trial.key / "parties").mkdir(parents=True)
    (private / trial.key / "parties" / "rows").write_text("private")
    died = ray.remote(max_retries=0)(lambda: os._exit(1)).remote()
    assert "the worker died" in _outcome(died, trial, tmp_path / "out")
    (row,) = results.rows(tmp_path / "out")
    assert (row["trial"], row["status"]) == (trial.key, "failed")
    assert not list((private / trial.key).iterdir())


@pytest.mark.slow
def test_a_sweep_runs_on_a_cluster_that_is_there(ray_cluster: None, tmp_path: Path):
    import ray

    address = ray.get_runtime_context().gcs_address
    (tmp_path / "sweep.yaml").write_text(SWEEP)
    command = [sys.executable, "-m", "experiments.cli", "sweep", str(tmp_path / "sweep.yaml"), "--workers", "2"]
    subprocess.run([*command, "--out", str(tmp_path / "there"), "--ray-address", address], check=True, timeout=200)
    sweep(trials(tmp_path), tmp_path / "here", Workers(), False, Silent())
    assert figures(tmp_path / "there").equals(figures(tmp_path / "here"))


def test_an_address_without_a_cluster_is_one_line_and_exit_2_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    (tmp_path / "sweep.yaml").write_text(SWEEP)
    asked = ["sweep", str(tmp_path / "sweep.yaml"), "--out", str(tmp_path / "out"), "--ray-address", "nowhere"]
    assert main(asked) == 2
    assert "--ray-address" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_sweep_whose_driver_alone_is_killed_goes_on(tmp_path: Path):
    """Ray ends the workers of a driver that is gone; what they had not finished is run again, once."""
    (tmp_path / "sweep.yaml").write_text(SWEEP)
    command = [sys.executable, "-m", "experiments.cli", "sweep", str(tmp_path / "sweep.yaml"), "--out"]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    subprocess.run([*command, str(whole)], check=True, timeout=200)
    running = subprocess.Popen([*command, str(cut)])
    while not list(cut.glob("rows/*.parquet")):
        assert running.poll() is None
        time.sleep(0.05)
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    subprocess.run([*command, str(cut), "--resume"], check=True, timeout=200)
    assert figures(cut).equals(figures(whole))


@pytest.mark.slow
def test_a_sweep_killed_twice_ends_as_one_left_alone(tmp_path: Path):
    (tmp_path / "sweep.yaml").write_text(SWEEP)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    command = [sys.executable, "-m", "experiments.cli", "sweep", str(tmp_path / "sweep.yaml"), "--out"]
    subprocess.run([*command, str(whole)], check=True, timeout=200)
    for rows in (1, 2):
        running = subprocess.Popen([*command, str(cut), "--resume"], start_new_session=True)
        while len(list(cut.glob("rows/*.parquet"))) < rows:
            assert running.poll() is None
            time.sleep(0.05)
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()
    written = {path.name: path.stat().st_mtime_ns for path in cut.glob("rows/*.parquet")}
    subprocess.run([*command, str(cut), "--resume"], check=True, timeout=200)
    assert figures(cut).equals(figures(whole))
    assert {name: (cut / "rows" / name).stat().st_mtime_ns for name in written} == written
