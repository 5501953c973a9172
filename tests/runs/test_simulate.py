"""`simulate` from configuration to row: what it leaves behind, how it resumes, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from harness import config

from experiments import rundir
from experiments.progress import Silent
from experiments.run import attack, simulate
from experiments.rundir import LEAST_ROWS
from vfl.errors import InterruptedRunError, PartyError, PeekError, UserError
from vfl.store import envelopes
from vfl.types import Envelope

pytestmark = pytest.mark.usefixtures("shared_isolation")

SMALL = {"train": {"epochs": 4, "batch_size": 32, "checkpoint_every": 7}}


def run(out: Path, resume: Path | None = None, **changed: Any) -> dict[str, Any]:
    asked = config(**{**SMALL, **changed})
    return simulate(asked, None if resume else out, ray_address=None, resume=resume, progress=Silent())


class StopsAt(Silent):
    """Cuts the power when training has come so far."""

    def __init__(self, step: int) -> None:
        self.step = step

    def advance(self, phase: str, done: int, note: str = "") -> None:
        if phase == "train" and done >= self.step:
            raise KeyboardInterrupt


@pytest.fixture
def every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("experiments.run.BETWEEN_S", 0.0)


@pytest.mark.parametrize("step", [3, 7, 20, 44])
@pytest.mark.usefixtures("every_step")
def test_a_killed_run_resumes_to_the_same_digest_and_transcript(tmp_path: Path, step: int) -> None:
    states = [{"name": "tpsl"}, {"name": "marvell", "s": 1.0}, {"name": "grad_compression", "residual": "row"}]
    defended = {"defense": [*states, {"name": "mid"}, {"name": "dropout"}]}  # all that carries anything between steps
    whole = run(tmp_path / "whole", **defended)
    asked = config(**SMALL, **defended)
    with pytest.raises(InterruptedRunError):
        simulate(asked, tmp_path / "cut", ray_address=None, resume=None, progress=StopsAt(step))
    assert not (tmp_path / "cut" / "row.json").exists()
    resumed = run(tmp_path, resume=tmp_path / "cut", **defended)
    assert resumed["digest"] == whole["digest"]
    assert resumed["utility"] == whole["utility"]
    for party in ("publisher", "advertiser"):
        first, second = (
            sorted(envelopes(tmp_path / name / "parties" / party / "transcript"), key=_order)
            for name in ("whole", "cut")
        )
        assert len(first) == len(second)
        for (way, a), (other, b) in zip(first, second, strict=True):
            assert (way, a.step, a.kind) == (other, b.step, b.kind)
            assert torch.equal(a.body, b.body)


def _order(entry: tuple[str, Envelope]) -> tuple[int, str, str]:
    way, envelope = entry
    return envelope.step, way, envelope.kind


def test_the_row_is_strict_json_and_counts_add_up(tmp_path: Path) -> None:
    row = run(tmp_path / "run", references=["advertiser_alone", "central"])
    assert json.loads((tmp_path / "run" / "row.json").read_text()) == row
    json.dumps(row, allow_nan=False)
    assert row["alignment"] == {"aligned": 569, "only": {"publisher": 0, "advertiser": 0}, "partial": {}}
    assert row["utility"]["test"]["auc"] == row["utility"]["central"]["auc"]
    assert row["gain"]["auc"]["value"] == pytest.approx(
        row["utility"]["test"]["auc"] - row["utility"]["advertiser_alone"]["auc"]
    )
    steps = row["cost"]["steps"]
    width = 32
    assert steps == 4 * -(-_train_rows() // 32)
    assert row["cost"]["bytes"]["gradient"] == 4 * _train_rows() * (4 * width + 4)


@pytest.mark.parametrize("every", [0, 3])
def test_references_choose_their_weights_as_the_run_does(tmp_path: Path, every: int) -> None:
    """Steps are so wide that the loss on validation rows has its least early on; the central model has it as early."""
    train = {"epochs": 6, "batch_size": 32, "lr": 0.1, "validate_every": every}
    both = ["advertiser_alone", "central"]
    chosen = run(tmp_path / "best", references=both, train={**train, "select": "best_valid"})["utility"]
    last = run(tmp_path / "last", references=both, train=train)["utility"]
    for metric in ("auc", "log_loss", "accuracy"):
        assert chosen["test"][metric] == chosen["central"][metric]
        assert last["test"][metric] == last["central"][metric]
    for name in ("test", "advertiser_alone") if every else ("test",):  # alone, the last epoch is the best
        assert chosen[name]["log_loss"] != last[name]["log_loss"]


def _train_rows() -> int:
    return 569 - round(0.25 * 569) - round(0.1 * 569)


def test_the_shareable_part_holds_no_row_level_value(tmp_path: Path) -> None:
    """No file of it has anything of the length of a pool, and no tensor file is in it."""
    from experiments.folder import copy_shareable

    run(tmp_path / "run")
    copy_shareable(tmp_path / "run", tmp_path / "shared")
    names = {path.name for path in (tmp_path / "shared").rglob("*")}
    assert names == {"config.yaml", "versions.json", "status.json", "steps.parquet", "row.json"}
    assert not list((tmp_path / "shared").rglob("*.safetensors"))
    longest = max(_lengths(json.loads((tmp_path / "shared" / "row.json").read_text())))
    assert longest <= 30


def test_the_shareable_part_holds_no_loss_of_a_single_row(tmp_path: Path) -> None:
    run(tmp_path / "run", train={"epochs": 1, "batch_size": 1})
    steps = pd.read_parquet(tmp_path / "run" / "steps.parquet").dropna(subset="loss")
    assert steps["step"].tolist() == list(range(LEAST_ROWS, _train_rows() + 1, LEAST_ROWS))


def test_the_row_has_the_keys_that_were_promised(tmp_path: Path) -> None:
    """These keys and no others; what a mapping is keyed by is the user's."""
    row = run(tmp_path / "run", references=["advertiser_alone", "central"])
    figures = {"auc", "pr_auc", "log_loss", "ne", "ece", "calibration_ratio", "accuracy", "reliability", "ci"}
    assert set(row) == {
        *("schema", "version", "run_id", "seed", "backend", "digest", "out", "notes", "data", "alignment"),
        *("utility", "gain", "method", "leakage", "integrity", "privacy", "cost"),
    }
    assert set(row["data"]) == {"name", "sha256", "synthetic", "rows", "classes", "positives", "base_rate", "parties"}
    assert set(row["data"]["parties"]) == {"publisher", "advertiser"}
    assert all(set(party) == {"role", "columns"} for party in row["data"]["parties"].values())
    assert set(row["alignment"]) == {"aligned", "only", "partial"}
    assert set(row["utility"]) == {"test", "advertiser_alone", "central"}
    assert all(set(found) == figures for found in row["utility"].values())
    assert set(row["gain"]) == {"auc", "log_loss", "per_publisher"}
    assert set(row["gain"]["auc"]) == set(row["gain"]["log_loss"]) == {"value", "ci", "p"}
    assert set(row["privacy"]) == {"ledger", "uncovered", "wire"}
    assert set(row["cost"]) == {"wall_s", "total_s", "steps", "path", "bytes", "peak_rss_mb"}
    promised = {"leak_auc", "leak_auc_pooled", "abs_q95", "sign_free", "chance", "prior_only", "upper", "ci", "ci_over"}
    assert all(promised <= set(marks) for marks in row["leakage"].values())


def _lengths(value: object) -> list[int]:
    if isinstance(value, dict):
        return [0, *(length for child in value.values() for length in _lengths(child))]
    if isinstance(value, list):
        return [len(value), *(length for child in value for length in _lengths(child))]
    return [0]


def test_an_attack_on_a_finished_run_gives_what_the_run_gave(tmp_path: Path) -> None:
    row = run(tmp_path / "run", attack=[{"name": "direction"}])
    later = attack(tmp_path / "run", [{"name": "direction"}, {"name": "norm"}], config(**SMALL), Silent())
    assert later["leakage"]["direction"] == row["leakage"]["direction"]
    assert later["digest"] == row["digest"]
    assert {path.name for path in (tmp_path / "run" / "attacks").iterdir()} == {"direction.json", "norm.json"}
    assert json.loads((tmp_path / "run" / "row.json").read_text()) == row


def test_marks_only_deletes_the_transcript(tmp_path: Path) -> None:
    run(tmp_path / "run", record={"keep": "marks"})
    assert not list((tmp_path / "run").rglob("chunk-*"))
    with pytest.raises(UserError, match="record"):
        attack(tmp_path / "run", [{"name": "norm"}], config(**SMALL), Silent())


PEEKING = """
from dataclasses import dataclass
from pathlib import Path
import torch
from vfl.attacks import Guess, Needs
from vfl.types import Kind

@dataclass(frozen=True)
class Peeking:
    path: str

    @property
    def needs(self):
        return Needs(received=frozenset({Kind.GRADIENT}))

    def infer(self, view, rng):
        Path(self.path).read_bytes()
        seen = view.gradients()
        return Guess("labels", seen.steps, seen.rows, torch.zeros(len(seen.rows)))
"""


@pytest.mark.parametrize("secret", ["referee/order.safetensors", "parties/advertiser/encoder.json", "row.json"])
def test_an_attack_that_reads_beyond_its_view_is_refused(tmp_path: Path, monkeypatch, secret: str) -> None:
    (tmp_path / "peeking.py").write_text(PEEKING)
    monkeypatch.syspath_prepend(str(tmp_path))
    run(tmp_path / "run")
    entry = {"name": "peeking:Peeking", "path": str(tmp_path / "run" / secret)}
    with pytest.raises(PeekError, match=secret.rpartition("/")[2]):
        attack(tmp_path / "run", [entry], config(**SMALL), Silent())


def test_an_attack_that_peeks_costs_a_run_no_row(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "peeking.py").write_text(PEEKING)
    monkeypatch.syspath_prepend(str(tmp_path))
    entry = {"name": "peeking:Peeking", "path": str(tmp_path / "run" / "referee" / "order.safetensors"), "as": "peek"}
    row = run(tmp_path / "run", attack=["norm", entry])
    assert "sees its view and nothing else" in row["leakage"]["peek"]["error"]
    assert any("leakage.peek: no figure" in note for note in row["notes"])
    assert row["leakage"]["norm"]["leak_auc"] is not None
    assert (tmp_path / "run" / "row.json").exists()


def test_the_same_attack_goes_through_where_nothing_confines_it(tmp_path: Path, monkeypatch) -> None:
    """What shows that the test above can fail: with the guard away, the file is read."""
    (tmp_path / "peeking.py").write_text(PEEKING)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr("experiments.leakage.Bounds", lambda **_: None)
    run(tmp_path / "run")
    entry = {"name": "peeking:Peeking", "path": str(tmp_path / "run" / "referee" / "order.safetensors")}
    assert attack(tmp_path / "run", [entry], config(**SMALL), Silent())["leakage"]["peeking:Peeking"]["leak_auc"] == 0.5


REFUSED = {
    "an unknown column": ({"split": {"name": "columns", "publisher": ["nope"], "advertiser": []}}, "nope"),
    "no such file": ({"data": {"name": "missing_file:MissingFile"}}, "missing_file"),
    "a single class": ({"data": "single:Single"}, "single class"),
    "a continuous label": ({"data": "continuous:Continuous"}, "quantity|whole numbers"),
    "an infinite value": ({"data": "infinite:Infinite"}, "infinite"),
    "zero aligned rows": ({"align": {"overlap": 0.0}}, "aligned"),
    "too large a transcript": ({"record": {"max_mb": 1}, "train": {"epochs": 300}}, "record.every="),
    "a transcript too large whatever is left out": (
        {"record": {"max_mb": 1}, "model": {"embedding_dim": 4096}, "train": {"batch_size": 500}},
        "train.batch_size",
    ),
    "a binary attack on ten classes": ({"data": "digits", "attack": ["norm"]}, "classes"),
    "a binary defense on ten classes": ({"data": "digits", "defense": [{"name": "marvell", "s": 1.0}]}, "classes"),
    "more hints than granted": ({"attack": [{"name": "direction", "hints": 5}]}, "labelled_rows"),
    "an adversary that sees no gradient": ({"threat": {"adversaries": ["advertiser"]}, "attack": ["norm"]}, "gradient"),
    "an unknown adversary": ({"threat": {"adversaries": ["nobody"]}}, "nobody"),
}

SOURCES = {
    "single": "def labels(self, root):\n        return super().labels(root) * 0",
    "continuous": "def labels(self, root):\n        return super().labels(root) + 0.5",
    "infinite": "def read(self, columns, root):\n        return super().read(columns, root) * float('inf')",
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_refused_with_one_line_and_leaves_nothing(tmp_path: Path, monkeypatch, case: str) -> None:
    for name, body in SOURCES.items():
        text = "from dataclasses import dataclass\nfrom vfl.data.breast_cancer import BreastCancer\n\n"
        text += f"@dataclass(frozen=True)\nclass {name.capitalize()}(BreastCancer):\n    {body}\n"
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    changed, told = REFUSED[case]
    with pytest.raises(UserError, match=told) as caught:
        run(tmp_path / "run", **changed)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_what_is_refused_after_training_loses_no_training(tmp_path: Path, monkeypatch) -> None:
    def refuse(*_: object) -> dict[str, Any]:
        raise UserError("got a network it cannot rebuild, allowed others; choose another attack")

    with monkeypatch.context() as patch:
        patch.setattr("experiments.run.attack_all", refuse)
        with pytest.raises(UserError):
            run(tmp_path / "run", attack=[{"name": "norm"}])
        with pytest.raises(UserError):
            run(tmp_path / "no checkpoint", attack=[{"name": "norm"}], train={"epochs": 1, "checkpoint_every": 0})
    assert (tmp_path / "no checkpoint" / "steps.parquet").exists()
    row = run(tmp_path, resume=tmp_path / "run", attack=[{"name": "norm"}])
    assert row["leakage"]["norm"]["leak_auc"] is not None


def test_a_party_that_fails_leaves_a_directory_that_can_be_resumed(tmp_path: Path, monkeypatch) -> None:
    from vfl.methods.vanilla import VanillaAdvertiser

    finish, calls = VanillaAdvertiser.finish, []

    def fail_late(self, step, mail):
        calls.append(step)
        if len(calls) == 20:
            raise RuntimeError("power cut")
        return finish(self, step, mail)

    with monkeypatch.context() as patch:
        patch.setattr(VanillaAdvertiser, "finish", fail_late)
        with pytest.raises(PartyError, match=r"advertiser failed.*power cut"):
            run(tmp_path / "cut")
    assert rundir.load_progress(tmp_path / "cut") is not None
    assert run(tmp_path, resume=tmp_path / "cut")["digest"] == run(tmp_path / "whole")["digest"]
