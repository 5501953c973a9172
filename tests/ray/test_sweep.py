"""Sweeps end to end on a small table, in Ray workers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from experiments import results
from experiments.axes import read_sweep
from experiments.folder import SHAREABLE
from experiments.progress import Silent
from experiments.sweep import Trial, resolve, sweep

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
    forward = sweep(found, tmp_path / "a", 1, False, Silent())
    sweep(found[::-1], tmp_path / "b", 1, False, Silent())
    assert (forward["trials"], forward["finished"], forward["failed"], forward["skipped"]) == (4, 4, 0, 0)
    assert figures(tmp_path / "a").equals(figures(tmp_path / "b"))
    assert figures(tmp_path / "a")["digest"].nunique() == 4
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["rows", "trials"]
    again = sweep(found, tmp_path / "a", 1, True, Silent())
    assert (again["finished"], again["skipped"]) == (4, 4)


def test_a_failing_trial_leaves_its_error_and_stops_no_other(ray_cluster: None, tmp_path: Path):
    """Without overlap there is no row to train on, which is found out once the parties have aligned."""
    found, out = trials(tmp_path)[:2], tmp_path / "out"
    bad = found[0].config.model_copy(update={"align": found[0].config.align.model_copy(update={"overlap": 0.0})})
    counts = sweep([Trial("bad", bad), found[1]], out, 1, True, Silent())
    assert (counts["finished"], counts["failed"]) == (1, 1)
    rows = figures(out).set_index("trial")
    assert rows.loc["bad", "status"] == "failed"
    assert "align.overlap" in rows.loc["bad", "error"]
    assert rows.loc[found[1].key, "status"] == "ok"
    left = {path.name for path in out.glob("trials/*/*")}
    assert left <= set(SHAREABLE)


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
