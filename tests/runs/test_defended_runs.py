"""Defenses in whole runs: every hook is reached, labels are the made ones, the ledger says what is guaranteed."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from harness import config, digest, train

from experiments.account import ledger
from experiments.plan import open_world, party_specs
from parties.advertiser import advertiser
from parties.mounts import mount
from tests.contracts.members import DEFENSES, cases, label
from vfl.defenses import Defense, Guard
from vfl.registry import build
from vfl.seeds import Seeds
from vfl.types import Pool, Step

NEUTRAL = ({"ratio": 0.0}, {"keep": 1.0}, {"rate": 0.0})
STACK = [
    {"name": "randomized_response", "epsilon": 3.0},
    {"name": "grad_clip", "clip_l2": 0.5},
    {"name": "clipped_gaussian", "on": "gradient", "noise_multiplier": 8.0},
    {"name": "max_norm"},
    {"name": "dropout"},
]


LOUD = [options[0] | {"name": name} for name, options in DEFENSES.items()]
LOUD = [spec for spec in LOUD if not isinstance(build("defense", spec), Guard)]
"""Defenses that change what is sent; guards are heard in `test_guarded_runs`."""


@pytest.mark.parametrize("spec", LOUD, ids=label)
def test_a_run_hears_every_defense_and_repeats(spec):
    asked = config(defense=[spec], train={"epochs": 1, "batch_size": 64})
    bare = config(train={"epochs": 1, "batch_size": 64})
    assert digest(train(asked)) == digest(train(asked)) != digest(train(bare))


@pytest.mark.parametrize("spec", [case for case in cases(DEFENSES) if any(n.items() <= case.items() for n in NEUTRAL)])
def test_a_defense_of_no_strength_changes_no_byte(spec):
    assert digest(train(config(defense=[spec]))) == digest(train(config()))


def test_a_defense_that_sends_nothing_moves_no_stream_of_the_others():
    noise = {"name": "gaussian_noise"}
    first, second = (
        mount(specs, Seeds(1), 2).mounted for specs in ([noise, {"name": "kdk"}], [noise, {"name": "pe_loss"}])
    )
    assert [mounted.acts_on for mounted in first] == [mounted.acts_on for mounted in second]
    assert isinstance(first[0].defense, Defense)


def labels_seen(defenses, epochs=1):
    """The labels that the method is given and those that defenses of gradients are given, by epoch."""
    asked = config(defense=defenses)
    world = open_world(asked)
    spec = next(spec for spec in party_specs(asked, world, None) if spec.party == "advertiser")
    party = advertiser(replace(spec, roster=spec.roster))
    from vfl.align import Alignment

    rows = len(world.cut.pools())
    order = torch.argsort(torch.from_numpy(world.cut.pools()).long(), stable=True)
    sizes = [int((torch.from_numpy(world.cut.pools()) == code).sum()) for code in range(3)]
    party.player._resumed = Alignment(order, *sizes, only=torch.empty(0, dtype=torch.int64))
    party.player.prepare()
    assert sum(sizes) == rows
    found = []
    for epoch in range(epochs):
        batch = party.player.batch(Step(0, "train", Pool.TRAIN, epoch=epoch, start=0, size=sizes[0]))
        found.append((batch.labels, party.player.labels(batch.rows)))
    valid = party.player.batch(Step(0, "valid", Pool.VALID, start=0, size=sizes[1]))
    return found, valid.labels


def test_the_method_and_the_other_defenses_see_the_labels_that_a_defense_made():
    ((clean, _),), valid = labels_seen([])
    ((made, known),), kept = labels_seen([{"name": "randomized_response", "epsilon": 0.5, "debias": False}])
    assert 0.2 < float((made != clean).float().mean()) < 0.55
    assert torch.equal(made, known)
    assert torch.equal(kept, valid)
    ((weights, known),), kept = labels_seen([{"name": "randomized_response", "epsilon": 0.5}])
    assert weights.shape == (len(clean), 2)
    assert torch.equal(known, made)
    assert torch.equal(kept, torch.nn.functional.one_hot(valid, 2).float())


def test_labels_are_drawn_anew_each_epoch_only_where_asked():
    (first, second), _ = labels_seen([{"name": "tpsl"}], epochs=2)
    assert not torch.equal(first[0], second[0])
    (first, second), _ = labels_seen([{"name": "tpsl", "draw": "once"}], epochs=2)
    assert torch.equal(first[0], second[0])


def test_the_ledger_holds_what_the_stack_guarantees_and_nothing_else():
    noised = {"name": "clipped_gaussian", "noise_multiplier": 20.0}
    asked = config(defense=[*STACK[:2], noised], train={"epochs": 100})
    lines = {line["party"]: line for line in ledger(asked, open_world(asked))}
    assert lines["publisher"]["epsilon"] == pytest.approx(4.3772, abs=5e-5)
    assert lines["publisher"]["delta"] == 1e-5
    assert (lines["advertiser"]["epsilon"], lines["advertiser"]["delta"]) == (3.0, 0.0)
    assert ledger(config(defense=[{"name": "marvell"}, {"name": "mixpro"}]), open_world(config())) == []


def test_gradients_to_two_publishers_are_two_releases():
    split = {"name": "columns", "one": ["mean_radius"], "two": ["mean_area"], "advertiser": ["worst_area"]}
    noised = [{"name": "clipped_laplace", "on": "gradient", "epsilon": 0.5}]
    asked = config(defense=noised, split=split, train={"epochs": 4})
    (line,) = ledger(asked, open_world(asked))
    assert line["epsilon"] == pytest.approx(0.5 * 4 * 2)


def test_members_named_here_exist():
    assert all(build("defense", spec) for spec in STACK)
