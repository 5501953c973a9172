"""What every registered training method promises, whatever it does."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
from harness import Deaf, config, digest, edges, train

from experiments.plan import coordinator_plan, open_world, party_specs
from parties.local import local_grid
from tests.contracts.members import METHODS, cases, label
from vfl.compat_flwr import COORDINATOR_NODE, new_context
from vfl.coordinator import Fit, server_app
from vfl.errors import ConfigError
from vfl.registry import build, names
from vfl.types import Role

THREE = {
    "name": "columns",
    "one": ["mean_radius", "mean_texture"],
    "two": ["mean_smoothness"],
    "advertiser": ["worst_area", "worst_smoothness"],
}
VANILLA_AT_FULL_OVERLAP = ["advonly", "celu", "fedbcd", "oracle"]
"""Methods that are `vanilla`, loss by loss, once no row is left over and their own extras are turned off."""
VANILLA_BY_WHOLE_BATCHES = [*VANILLA_AT_FULL_OVERLAP, "diffu_at", "fedud", "heuristic", "risa", "secure_sum"]
"""Methods that are so where an epoch is one batch: their phases shuffle in orders of their own.

The others do something else on aligned rows too: `local` and `local_all` have no partner, `jpl` and `fedcvt` train more
networks beside, `ss_vfl`, `vfl_mpd` and `fedhssl` start from a bottom that was trained without labels.
"""
ON_RAY_BY_DEFAULT = ["celu", "diffu_at", "fedbcd", "ss_vfl", "vanilla"]
NEED_OWN_COLUMNS = {"diffu_at", "fedcvt", "heuristic", "jpl", "local", "local_all"}
"""Methods in which the advertiser trains or predicts on what it holds by itself."""
SECOND_BEGINS_ANEW, SECOND_GOES_ON = ("diffu_at", "heuristic"), ("fedud",)
"""Methods of two stages: on aligned rows, then on all rows that are labelled, which here are the same."""
EXTRAS_OFF: dict[str, dict[str, Any]] = {
    "celu": {"local_steps": 1},
    "fedbcd": {"local_steps": 1},
    "risa": {"rounds": 1, "warm_steps": 1, "round_steps": 1, "head_steps": 0, "evidence_weight": 0.0},
}


def asked(spec: dict[str, Any], **changed: Any) -> Any:
    return config(method=spec, align={"overlap": 0.3}, **changed)


def test_every_member_has_a_row():
    assert sorted(METHODS) == names("method")


@pytest.fixture(params=cases(METHODS), ids=label)
def spec(request) -> dict[str, Any]:
    return request.param


def test_is_a_frozen_bag_of_options_whose_hops_have_handlers(spec):
    method = build("method", spec)
    assert dataclasses.is_dataclass(method)
    assert hash(type(method))
    for phase in method.phases(party_specs(config(), open_world(config()), None)[0].train.options()):
        assert phase.hops
        assert len({hop.name for hop in phase.hops}) == len(phase.hops)
    assert method.evaluate[-1].role is Role.REFEREE


def test_two_runs_are_one_run_and_every_loss_is_finite(spec):
    first, second = (train(asked(spec, train={"epochs": 1, "batch_size": 64})) for _ in range(2))
    assert digest(first) == digest(second)
    losses = [loss for loss in first.progress.losses if loss is not None]
    assert losses
    assert all(math.isfinite(loss) for loss in losses)
    assert first.progress.losses == second.progress.losses


def test_three_parties_and_the_best_epoch(spec):
    fit = train(asked(spec, split=THREE, train={"epochs": 1, "batch_size": 64, "select": "best_valid"}))
    assert fit.progress.valid
    assert all(math.isfinite(loss) for loss in fit.progress.valid.values())


def test_full_overlap_and_ten_classes_work_too(spec):
    fit = train(config(method=spec, data="digits", train={"epochs": 1, "batch_size": 512}))
    assert any(key.startswith("advertiser>referee") for key in edges(fit))


def test_few_aligned_rows_do_not_stop_it(spec):
    train(config(method=spec, align={"overlap": 0.01, "leftover": "advertiser"}, train={"epochs": 1}))


def test_an_advertiser_without_columns_is_served_or_refused_in_one_line(spec):
    split = {"name": "columns", "one": ["mean_radius", "mean_texture"], "advertiser": []}
    wanted = asked(spec, split=split, train={"epochs": 1, "batch_size": 256})
    if spec["name"] not in NEED_OWN_COLUMNS:
        train(wanted)
        return
    with pytest.raises(ConfigError, match=r"method\.name: got an advertiser without columns, allowed [^\n]+$"):
        train(wanted)


class Dying(Deaf):
    """A watcher that ends the run just after its `at`-th checkpoint, and remembers how far it was."""

    def __init__(self, at: int) -> None:
        self.left, self.progress = at, None

    def checkpointed(self, progress: Any) -> None:
        self.left -= 1
        if not self.left:
            self.progress = dataclasses.replace(progress, losses=list(progress.losses), valid=dict(progress.valid))
            raise KeyboardInterrupt


def test_a_resumed_run_ends_in_the_same_digest(spec, tmp_path: Path):
    """Cut in the middle and near the end."""
    wanted = asked(spec, train={"epochs": 2, "batch_size": 64, "checkpoint_every": 3, "select": "best_valid"})
    whole = train(wanted, tmp_path / "whole")
    checkpoints = (len(whole.progress.losses) - 1) // 3
    for at in {checkpoints // 2, checkpoints} - {0}:
        watcher, folder = Dying(at), tmp_path / f"cut-{at}"
        with pytest.raises(KeyboardInterrupt):
            _play(wanted, folder, Fit(), watcher, resume=False)
        fit = Fit(progress=watcher.progress)
        _play(wanted, folder, fit, Deaf(), resume=True)
        assert digest(fit) == digest(whole)
        assert fit.progress.losses == whole.progress.losses


def _play(wanted: Any, folder: Path, fit: Fit, watcher: Any, resume: bool) -> None:
    grid = local_grid(party_specs(wanted, open_world(wanted), folder), wanted.transport)
    try:
        server_app(coordinator_plan(wanted), fit, watcher, resume=resume)(grid, new_context(COORDINATOR_NODE))
    finally:
        grid.close()


@pytest.mark.parametrize(
    ("name", "batch_size"),
    [*((name, 64) for name in VANILLA_AT_FULL_OVERLAP), *((name, 4096) for name in VANILLA_BY_WHOLE_BATCHES)],
)
def test_at_full_overlap_it_is_vanilla(name: str, batch_size: int):
    """In all its stages: a second one begins anew, or goes on where the first ended."""
    options = {**METHODS[name][0], **EXTRAS_OFF.get(name, {})}
    epochs = 8 if name in SECOND_GOES_ON else 4
    ours = _losses({"name": name, **options}, 4, batch_size)
    expected = _losses({"name": "vanilla"}, epochs, batch_size)
    assert len(expected) == epochs * -(-open_world(config()).cut.pools().tolist().count(0) // batch_size)
    stages = 2 if name in SECOND_BEGINS_ANEW else 1
    assert ours == pytest.approx(expected * stages, abs=1e-6)


def _losses(method: dict[str, Any], epochs: int, batch_size: int) -> list[float]:
    done = train(config(method=method, train={"epochs": epochs, "batch_size": batch_size}))
    return [loss for loss in done.progress.losses if loss is not None]


def _each_kind_of_round_by_default(spec: dict[str, Any]) -> Any:
    """Return the spec, marked slow unless its method is one of a few that play every kind of round between them."""
    return pytest.param(spec, id=label(spec), marks=[] if spec["name"] in ON_RAY_BY_DEFAULT else [pytest.mark.slow])


@pytest.mark.ray
@pytest.mark.timeout(180)
@pytest.mark.parametrize("spec", [_each_kind_of_round_by_default(spec) for spec in cases(METHODS)])
def test_ray_gives_the_digest_of_local(spec, ray_cluster):
    from parties.ray import ray_grid

    def on_ray(specs, wanted, largest):
        return ray_grid(specs, wanted.transport, largest)

    wanted = asked(spec)
    assert digest(train(wanted, make_grid=on_ray)) == digest(train(wanted))
