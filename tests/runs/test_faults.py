"""Links that lose, double and delay; parties that die; disks that fill up: the run ends in the calm run's digest."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from harness import TINY, config, digest, train

from experiments import rundir
from experiments.cli import main
from experiments.progress import Silent
from experiments.run import simulate
from parties.faults import Faults, FaultyCarrier, faulty
from parties.local import local_grid
from vfl.errors import DataError, InterruptedRunError, PartyError, PartyGoneError, UserError
from vfl.grid import PartyGrid
from vfl.seeds import Seeds
from vfl.wire import STEP_KEY, read_step

pytestmark = pytest.mark.usefixtures("shared_isolation")

TRAIN = {"epochs": 3, "batch_size": 64, "checkpoint_every": 4}


def calm(**changed):
    return digest(train(config(train=TRAIN, **changed)))


def stormy(folder: Path, faults: Faults, restarts: int = 0, **changed):
    """Train over a bad network; returns the fit and what happened."""
    seen: list[FaultyCarrier] = []

    def make(specs, asked, largest):
        grid = faulty(local_grid(specs, asked.transport), faults, Seeds(5))
        seen.append(grid.carrier)
        return grid

    fit = train(config(train=TRAIN, faults={"restarts": restarts}, **changed), folder, make)
    return fit, seen[0].counts


@pytest.mark.parametrize("channel", ["on"])
def test_lost_and_doubled_messages_change_nothing(tmp_path, channel):
    fit, counts = stormy(tmp_path, Faults(loss=0.1, duplicate=0.3), wire={"channel": channel})
    assert counts["loss"] > 5
    assert counts["duplicate"] > 20
    assert digest(fit) == calm()


def test_slow_links_cost_a_wait_a_level_and_change_nothing(tmp_path, monkeypatch):
    """Messages side by side wait once: there are fewer waits than messages."""
    waits: list[float] = []
    monkeypatch.setattr("parties.faults.time.sleep", waits.append)
    fit, _ = stormy(tmp_path, Faults(latency_s=0.05))
    assert set(waits) == {0.05}
    assert 3 * len(fit.progress.losses) <= len(waits) < 5 * len(fit.progress.losses) + 30
    assert digest(fit) == calm()


@pytest.mark.parametrize("changed", [{}, {"wire": {"codec": "int8+feedback"}}])
def test_deaths_before_and_after_acting_are_made_good(tmp_path, changed):
    fit, counts = stormy(tmp_path, Faults(crash=0.03), restarts=1_000, **changed)
    assert fit.restarts >= counts["crash"] > 1
    assert digest(fit) == calm(**changed)


@pytest.mark.slow
@pytest.mark.parametrize("changed", [{"wire": {"channel": "on"}}, {"align": {"name": "ecdh_psi", "overlap": 0.4}}])
def test_chaos_twenty_deaths_and_cuts_and_nothing_is_lost(tmp_path, changed):
    """Parties die before and after they act, between alignment and the last evaluation, while links lose and double."""
    faults = Faults(loss=0.04, duplicate=0.1, crash=0.06)
    fit, counts = stormy(tmp_path, faults, restarts=1_000, **changed)
    assert counts["crash"] >= 20
    assert fit.restarts >= 20
    assert digest(fit) == calm(**changed)


THREE = {"name": "columns", "one": ["mean_radius"], "two": ["mean_area", "mean_texture"], "advertiser": []}


class GoneForGood(FaultyCarrier):
    """The publisher `two` dies in the second epoch and never comes back, as revival finds out."""

    def carry(self, messages):
        gone = any(STEP_KEY in each.content and read_step(each.content)[0].index >= 10 for each in messages)
        if (gone or self.counts.get("gone")) and any(self._party(message) == "two" for message in messages):
            self.counts["gone"] = 1
            raise PartyGoneError("two died", "two")
        return self.inner.carry(messages)

    def excuse(self, party):
        self.counts["excused"] = 1

    def revive(self):
        if "excused" not in self.counts:
            raise PartyGoneError("two stayed away", "two")
        self.inner.revive()


@pytest.mark.parametrize("channel", ["on"])
def test_a_publisher_gone_for_good_is_done_without(tmp_path, channel):
    """The advertiser goes on with what it last had of it."""

    def make(specs, asked, largest):
        grid = local_grid(specs, asked.transport)
        return PartyGrid(grid.roster, GoneForGood(grid.roster, grid.carrier, Faults(), Seeds(0).numpy("x")))

    asked = config(train=TRAIN, split=THREE, faults={"restarts": 1, "without": "impute"}, wire={"channel": channel})
    fit = train(asked, tmp_path / "run", make)
    assert 0 < fit.absent["two"] <= 10
    assert fit.progress.losses[-1] < fit.progress.losses[0]
    assert "two" not in fit.closing
    assert len(fit.progress.losses) == len(train(asked).progress.losses)
    with pytest.raises(PartyGoneError, match="two stayed away"):
        train(
            asked.model_copy(update={"faults": asked.faults.model_copy(update={"without": "stop"})}),
            tmp_path / "stop",
            make,
        )


def test_what_going_on_without_a_publisher_costs_is_in_the_row_and_outlasts_a_resumption(tmp_path, monkeypatch):
    """Beside the calm run's, to all digits. Cut again after it went on, it does not ask for the publisher."""
    asked = config(
        train=TRAIN, split=THREE, faults={"restarts": 0, "without": "impute"}, references=["advertiser_alone"]
    )
    calm = simulate(asked, tmp_path / "calm", ray_address=None, resume=None, progress=Silent())

    def gone(grid, faults, seeds):
        return PartyGrid(grid.roster, GoneForGood(grid.roster, grid.carrier, Faults(), seeds.numpy("x")))

    monkeypatch.setattr("experiments.run.faulty", gone)
    with monkeypatch.context() as patch:
        fail_at(patch, "experiments.rundir.save_progress", 4, KeyboardInterrupt())
        with pytest.raises(InterruptedRunError):
            simulate(asked, tmp_path / "cut", ray_address=None, resume=None, progress=Silent())
    row = simulate(asked, None, ray_address=None, resume=tmp_path / "cut", progress=Silent())
    everyone, without = calm["utility"]["test"]["auc"], row["utility"]["test"]["auc"]
    assert "honest" not in calm["utility"]
    assert row["utility"]["honest"]["auc"] == everyone > without
    assert any(note.startswith("two stayed away from step") for note in row["notes"])
    assert any(note.endswith(f"the absence costs {everyone - without:.4f}") for note in row["notes"])


def test_a_link_that_is_cut_ends_the_run_by_name(tmp_path):
    with pytest.raises(PartyGoneError, match=r"stayed away: no answer to 3 messages"):
        stormy(tmp_path, Faults(loss=0.9, retries=2))


def test_a_party_that_dies_more_often_than_allowed_ends_the_run_and_the_directory_goes_on(tmp_path):
    asked = {**TINY, "backend": "local", "train": TRAIN}
    whole = simulate(config(**asked), tmp_path / "whole", ray_address=None, resume=None, progress=Silent())
    cut = config(**asked, faults={"crash": 0.2, "restarts": 3})
    with pytest.raises(PartyGoneError, match=r"died.*--resume"):
        simulate(cut, tmp_path / "cut", ray_address=None, resume=None, progress=Silent())
    steady = config(**asked)
    found = simulate(steady, None, ray_address=None, resume=tmp_path / "cut", progress=Silent())
    assert found["digest"] == whole["digest"]
    assert found["utility"] == whole["utility"]


def run(out: Path | None, resume: Path | None = None, **changed):
    asked = config(train=TRAIN, **changed)
    return simulate(asked, out, ray_address=None, resume=resume, progress=Silent())


def fail_at(monkeypatch, target: str, call: int, error: BaseException) -> None:
    """Have the `call`-th call of a function fail."""
    from importlib import import_module

    module, _, name = target.rpartition(".")
    owner = import_module(module)
    whole, calls = getattr(owner, name), []

    def broken(*args, **kwargs):
        calls.append(1)
        if len(calls) == call:
            raise error
        return whole(*args, **kwargs)

    monkeypatch.setattr(owner, name, broken)


@pytest.mark.parametrize("call", [40])
def test_a_full_disk_leaves_a_run_that_goes_on(tmp_path, monkeypatch, call):
    with monkeypatch.context() as patch:
        fail_at(patch, "os.fsync", call, OSError(errno.ENOSPC, "No space left on device"))
        with pytest.raises(PartyError, match="No space left on device"):
            run(tmp_path / "cut")
    assert not list((tmp_path / "cut").rglob("*.part"))
    assert run(None, resume=tmp_path / "cut")["digest"] == run(tmp_path / "whole")["digest"]


def test_ctrl_c_leaves_a_run_that_goes_on(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        fail_at(patch, "experiments.rundir.write_status", 9, KeyboardInterrupt())
        with pytest.raises(InterruptedRunError, match=r"--resume .*cut"):
            run(tmp_path / "cut")
    assert run(None, resume=tmp_path / "cut")["digest"] == run(tmp_path / "whole")["digest"]


def cut(folder: Path, monkeypatch) -> Path:
    """Return a run that was cut after its second checkpoint."""
    with monkeypatch.context() as patch:
        fail_at(patch, "experiments.rundir.save_progress", 3, KeyboardInterrupt())
        with pytest.raises(InterruptedRunError):
            run(folder)
    return folder


def flip(path: Path, at: int = -9) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(bytes(data))


def test_one_flipped_bit_of_a_checkpoint_is_found_and_the_one_before_is_taken(tmp_path, monkeypatch):
    folder = cut(tmp_path / "cut", monkeypatch)
    step = json.loads((folder / "coordinator.json").read_text())["step"]
    flip(folder / "parties" / "publisher" / "checkpoints" / f"step-{step:09d}.safetensors")
    with pytest.raises(DataError, match="checksum"):
        run(None, resume=folder)
    (folder / "coordinator.json").unlink()
    assert run(None, resume=folder)["digest"] == run(tmp_path / "whole")["digest"]


def test_a_changed_progress_file_is_found(tmp_path, monkeypatch):
    folder = cut(tmp_path / "cut", monkeypatch)
    text = (folder / "coordinator.json").read_text()
    (folder / "coordinator.json").write_text(text.replace('"done": 8', '"done": 9'))
    with pytest.raises(UserError, match="not as it was written"):
        rundir.load_progress(folder)


def test_one_flipped_bit_of_a_transcript_is_found(tmp_path, capsys):
    out = tmp_path / "run"
    sets = ["--set", "data=breast_cancer", "--set", "train.epochs=1", "--set", "attack=[]", "--set", "references=[]"]
    assert main(["simulate", "--backend", "local", *sets, "--out", str(out)]) == 0
    flip(next((out / "parties" / "publisher" / "transcript").glob("chunk-*")))
    capsys.readouterr()
    assert main(["attack", str(out), "--attack", "norm"]) == 2
    assert "checksum is wrong" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_process_that_is_really_killed_goes_on(tmp_path, how):
    sets = ["data=adult", "train.epochs=2", "train.checkpoint_every=20", "attack=[]", "references=[]"]
    command = [sys.executable, "-m", "experiments.cli", "simulate", "--backend", "local"]
    command += [part for text in sets for part in ("--set", text)]
    subprocess.run([*command, "--out", str(tmp_path / "whole")], check=True, timeout=200)
    running = subprocess.Popen([*command, "--out", str(tmp_path / "cut")], start_new_session=True)
    while not (tmp_path / "cut" / "coordinator.json").exists():
        assert running.poll() is None
        time.sleep(0.02)
    os.killpg(running.pid, how)
    assert running.wait(60) == (130 if how == signal.SIGINT else -9)
    resume = [sys.executable, "-m", "experiments.cli", "simulate", "--resume", str(tmp_path / "cut")]
    subprocess.run(resume, check=True, timeout=200)
    rows = [json.loads((tmp_path / name / "row.json").read_text()) for name in ("whole", "cut")]
    assert rows[0]["digest"] == rows[1]["digest"]


def test_a_run_directory_is_for_its_owner_alone(tmp_path, monkeypatch):
    """What parties keep for themselves is in it: transcripts, checkpoints, scores."""
    monkeypatch.chdir(tmp_path)
    made = [rundir.fresh(None, "run"), rundir.fresh(None, "run"), rundir.fresh(tmp_path / "named", "run")]
    assert [folder.stat().st_mode & 0o077 for folder in made] == [0, 0, 0]
