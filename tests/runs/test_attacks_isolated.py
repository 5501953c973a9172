"""Every registered attack replays a recorded run in its own confined process, and one that cheats is caught there."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from harness import config, train

from experiments.leakage import Target, attack_all
from experiments.plan import open_world
from experiments.progress import Silent
from experiments.run import Shared, simulate
from experiments.schema import AttackSpec, Config
from experiments.threat import check_threat
from parties.isolate import Isolation
from tests.contracts.members import ADVERTISER_LOOKS, ATTACKS
from vfl import checkpoint
from vfl.access import declared
from vfl.attacks import Needs
from vfl.errors import ConfigError, PeekError, RegistryError, ThreatError
from vfl.registry import build
from vfl.types import Kind

HINTS = {"labelled_rows": 100, "known_rows": 100, "prior": True, "scores": True, "victim_models": True}
SPLIT = {"name": "columns", "publisher": ["mean_radius", "mean_texture"], "advertiser": ["worst_area"]}
RUN = {
    "split": SPLIT,
    "model": {"bottom": "linear", "top": "sum", "embedding_dim": 1},
    "train": {"epochs": 3, "batch_size": 64, "lr": 0.02},
}
TABLE = """
from dataclasses import dataclass, replace
from vfl.data.breast_cancer import BreastCancer

@dataclass(frozen=True)
class Coloured(BreastCancer):
    def describe(self, root):
        found = super().describe(root)
        return replace(found, categorical=("colour",))

    def read(self, columns, root):
        frame = super().read([name for name in columns if name != "colour"], root)
        if "colour" in columns:
            frame["colour"] = (super().read(["mean_area"], root)["mean_area"] > 600).map({True: "red", False: "blue"})
        return frame
"""
CHEAT = """
from dataclasses import dataclass
from pathlib import Path
from vfl.attacks import Guess, Needs
from vfl.registry import build
from vfl.types import Kind

@dataclass(frozen=True)
class Cheat:
    path: str

    @property
    def needs(self):
        return Needs(received=frozenset({Kind.GRADIENT}))

    def infer(self, view, rng):
        try:
            Path(self.path).read_bytes()
        except Exception:
            pass
        seen = view.gradients()
        return Guess("labels", seen.steps, seen.rows, seen.body[:, 0])


@dataclass(frozen=True)
class Disguised:
    # Any attack's needs, and so its grants and bounds, with a peek in place of its work.
    inner: dict
    path: str

    @property
    def needs(self):
        return build("attack", self.inner).needs

    def infer(self, view, rng):
        try:
            Path(self.path).read_bytes()
        except Exception:
            pass
        return Guess("labels", view.hints.rows, view.hints.rows, view.hints.rows.float())


@dataclass(frozen=True)
class Guessing(Cheat):
    # Tries small seeds of the run against the stream that it was handed, and has an opinion only where one fits.
    def infer(self, view, rng):
        from vfl.seeds import Seeds
        tried = (Seeds(Seeds(seed).at("attack", "guessing")).torch("infer").initial_seed() for seed in range(300))
        seen = view.gradients()
        return Guess("labels", seen.steps, seen.rows, seen.body[:, 0] * float(rng.initial_seed() in tried))


@dataclass(frozen=True)
class Undeclared(Cheat):
    # Reads labels that it did not ask for, which are not there either.
    def infer(self, view, rng):
        view.hints.labels
        return super().infer(view, rng)
"""


@pytest.fixture(scope="module")
def isolation():
    with Isolation() as found:
        yield found


@pytest.fixture(scope="module")
def outside(tmp_path_factory):
    folder = tmp_path_factory.mktemp("outside")
    (folder / "coloured.py").write_text(TABLE)
    (folder / "cheating.py").write_text(CHEAT)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        yield


@pytest.fixture(scope="module")
def runs(tmp_path_factory, outside) -> dict[str, Target]:
    """The same small run, recorded, as a publisher and as the advertiser would attack it; and one with categories."""
    folder, coloured = tmp_path_factory.mktemp("run"), tmp_path_factory.mktemp("coloured")
    columns = {**SPLIT, "publisher": ["mean_radius", "colour"]}
    other = {**RUN, "data": {"name": "coloured:Coloured"}, "split": columns}
    for asked, place in ((RUN, folder), (other, coloured)):
        train(config(**asked), place)
    return {
        "publisher": target(RUN, "publisher", folder),
        "advertiser": target(RUN, "advertiser", folder),
        "coloured": target(other, "advertiser", coloured),
    }


def target(asked, looks: str, folder: Path) -> Target:
    chosen: Config = config(**asked, threat={"adversaries": [looks], "hints": HINTS})
    return Target(chosen, open_world(chosen), folder)


def attack(run: Target, isolation: Isolation, spec) -> dict[str, object]:
    specs = [AttackSpec.model_validate(spec)]
    check_threat(run.config, run.world, specs)
    return attack_all(run, specs, isolation, Silent())[specs[0].key]


def target_of(name: str) -> str:
    return ADVERTISER_LOOKS.get(name, "publisher")


@pytest.mark.parametrize("name", sorted(ATTACKS))
def test_every_attack_replays_a_recorded_run_in_isolation(name, runs, isolation):
    figures = attack(runs[target_of(name)], isolation, {"name": name, **ATTACKS[name][0]})
    assert {"chance", "prior_only", "upper", "ci"} <= figures.keys()
    assert figures["upper"] is not None
    assert figures["reads"]
    assert set(figures["reads"]) <= declared(build("attack", {"name": name, **ATTACKS[name][0]}).needs)


def test_direct_inference_is_right_on_every_row_of_a_run_with_a_plain_sum(runs, isolation):
    assert attack(runs["publisher"], isolation, {"name": "direct_label_inference"})["accuracy"] == 1.0


def test_equality_solving_is_exact_for_one_column_and_two_classes(runs, isolation, tmp_path):
    one = {**RUN, "split": {**SPLIT, "publisher": ["mean_radius"]}}
    train(config(**one), tmp_path)
    narrow = attack(target(one, "advertiser", tmp_path), isolation, {"name": "equality_solving"})
    assert narrow["nmse"] < 1e-6
    assert attack(runs["advertiser"], isolation, {"name": "equality_solving"})["nmse"] > 0.01


@pytest.mark.parametrize("name", sorted(ATTACKS))
def test_a_peek_is_caught_with_the_grants_and_bounds_of_any_attack(name, runs, isolation, monkeypatch):
    run, inner = runs[target_of(name)], {"name": name, **ATTACKS[name][0]}
    monkeypatch.setattr("experiments.leakage.needs_of", lambda spec: build("attack", inner).needs)
    path = str(run.run_dir / "referee" / "order.safetensors")
    cheat = AttackSpec.model_validate({"name": "cheating:Disguised", "inner": inner, "path": path})
    with pytest.raises(PeekError, match="sees its view and nothing else"):
        attack_all(run, [cheat], isolation, Silent())


def test_a_read_beyond_what_was_declared_is_caught(runs, isolation, monkeypatch):
    monkeypatch.setattr("experiments.leakage.needs_of", lambda spec: Needs(received=frozenset({Kind.GRADIENT})))
    own = str(runs["publisher"].run_dir / "parties" / "publisher" / "own.safetensors")
    cheat = AttackSpec.model_validate({"name": "cheating:Undeclared", "path": own})
    with pytest.raises(PeekError, match=r"read hints\.labels, which it did not declare"):
        attack_all(runs["publisher"], [cheat], isolation, Silent())


@pytest.mark.parametrize(("seed", "found"), [(211, True), (2**61 + 3**30, False)])
def test_code_that_tries_seeds_finds_a_small_one_and_no_drawn_one(seed, found, outside, isolation, tmp_path):
    """Why a run with somebody else's attack should draw its seed, and why its notes ask for that."""
    spec = {"name": "cheating:Guessing", "path": "", "as": "guessing"}
    asked = {**RUN, "seed": seed, "backend": "local", "data": "breast_cancer", "attack": [spec], "references": []}
    shared = Shared(isolation, tmp_path / "references", tmp_path / "alignments")
    where = {"ray_address": None, "resume": None, "progress": Silent(), "shared": shared}
    row = simulate(Config.model_validate(asked), tmp_path / "run", **where)
    told = [note for note in row["notes"] if "by trying" in note]
    assert (row["leakage"]["guessing"]["leak_auc"] != 0.5) == found
    assert bool(told) == found


@pytest.mark.parametrize("place", ["referee/order.safetensors", "parties/advertiser/own.safetensors"])
def test_a_peek_at_truth_or_at_another_party_is_caught(place, runs, isolation):
    path = str(runs["publisher"].run_dir / place)
    assert Path(path).exists()
    with pytest.raises(PeekError, match="sees its view and nothing else"):
        attack(runs["publisher"], isolation, {"name": "cheating:Cheat", "path": path})


def test_the_code_of_an_attack_from_outside_is_never_imported_here(runs, isolation):
    own = str(runs["publisher"].run_dir / "parties" / "publisher" / "own.safetensors")
    attack(runs["publisher"], isolation, {"name": "cheating:Cheat", "path": own})
    assert "cheating" not in sys.modules
    with pytest.raises(RegistryError, match="nowhere"):
        attack(runs["publisher"], isolation, {"name": "cheating:nowhere"})
    with pytest.raises(ConfigError, match="speed"):
        attack(runs["publisher"], isolation, {"name": "cheating:Cheat", "path": own, "speed": 3})


def test_its_own_folder_is_no_peek(runs, isolation):
    own = str(runs["publisher"].run_dir / "parties" / "publisher" / "own.safetensors")
    assert attack(runs["publisher"], isolation, {"name": "cheating:Cheat", "path": own})["leak_auc"] is not None


def test_no_partys_own_table_holds_a_label(runs):
    for party in ("publisher", "advertiser"):
        tensors, _ = checkpoint.load(runs["publisher"].run_dir / "parties" / party / "own.safetensors")
        assert set(tensors) == {"rows", "numeric", "categorical"}
        assert torch.equal(tensors["rows"], torch.arange(569))


def test_an_attack_beyond_the_grant_and_one_at_the_wrong_side_are_refused(runs):
    chosen = config(**RUN, attack=[], threat={"adversaries": ["publisher"]})
    world = open_world(chosen)
    with pytest.raises(ThreatError, match="the share of each class"):
        check_threat(chosen, world, [AttackSpec(name="spectral")])
    with pytest.raises(ThreatError, match="do not see"):
        check_threat(runs["advertiser"].config, world, [AttackSpec(name="norm")])
    everyone = config(**RUN, threat={"adversaries": ["publisher", "advertiser"]})
    with pytest.raises(ThreatError, match="nobody is left"):
        check_threat(everyone, world, [AttackSpec(name="norm")])
