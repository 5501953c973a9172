"""Secure aggregation: what it computes in the clear, what the advertiser sees, and a publisher that stays away."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from harness import Deaf, config, edges, train
from torch import nn

from experiments.config import check_members
from parties.faults import Faults, FaultyCarrier
from parties.local import LocalCarrier, local_grid, make_party
from vfl.errors import ConfigError, PartyGoneError, WireError
from vfl.grid import PartyGrid
from vfl.seeds import Seeds
from vfl.store import envelopes
from vfl.types import Kind

SPLIT = {
    "name": "columns",
    "one": ["mean_radius", "mean_texture"],
    "two": ["mean_smoothness", "mean_area"],
    "advertiser": ["worst_area"],
}
SUM = {"method": "secure_sum", "split": SPLIT, "model": {"embedding_dim": 4}}


def test_the_first_loss_is_that_of_the_same_network_in_the_clear():
    """A plain loop over the sum of the bottoms, built here from the same named streams."""
    from experiments.plan import open_world, party_specs
    from vfl.data.encode import EncodeOptions, fit
    from vfl.data.shard import load_features

    asked = config(**SUM, train={"epochs": 1, "batch_size": 1000})
    specs = {spec.party: spec for spec in party_specs(asked, open_world(asked), None)}
    fitted = train(asked)
    total, own = None, None
    labels = None
    for party in ("one", "two", "advertiser"):
        spec = specs[party]
        frame = load_features(spec.shard)
        train_rows = frame.train_rows
        encoder = fit(frame.frame, train_rows, frame.numeric, frame.categorical, EncodeOptions())
        numeric, categorical = encoder.transform(frame.frame.iloc[train_rows])
        from vfl.types import Batch

        bottom = spec.model.build_bottom(encoder.schema, spec.role, party, spec.seeds)
        embedding = bottom(Batch(torch.arange(len(numeric)), numeric, categorical)).detach()
        if party == "advertiser":
            own = embedding
            labels = torch.from_numpy(frame.labels.open()[train_rows])
        else:
            total = embedding if total is None else total + embedding
    top = specs["advertiser"].model.build_top(8, 2, specs["advertiser"].seeds)
    logits = top(torch.cat([total, own], dim=1)).flatten()
    loss = nn.functional.binary_cross_entropy_with_logits(logits, labels.float())
    first = next(loss for loss in fitted.progress.losses if loss is not None)
    assert first == pytest.approx(loss.item(), abs=1e-5)


def test_the_advertiser_sees_noise_whose_sum_is_small(tmp_path):
    train(config(**SUM), tmp_path)
    seen = [each for way, each in envelopes(tmp_path / "parties" / "advertiser" / "transcript") if way == "received"]
    by_step = {}
    for envelope in seen:
        if envelope.kind == Kind.EMBEDDING:
            by_step.setdefault(envelope.step, []).append(envelope.body)
    assert len(by_step) > 5
    for bodies in by_step.values():
        assert len(bodies) == 2
        assert all(body.dtype == torch.int64 and body.double().abs().mean() > 2.0**60 for body in bodies)
        assert torch.stack(bodies).sum(dim=0).abs().max() < 2**40
    rounds = [bodies[0] for bodies in by_step.values() if len(bodies[0]) == len(next(iter(by_step.values()))[0])]
    assert len(rounds) > 5
    for earlier, later in itertools.pairwise(rounds):  # under one mask the difference would be that of two embeddings
        assert (later - earlier).double().abs().mean() > 2.0**60


def test_both_publishers_are_sent_the_same_gradient(tmp_path):
    fit = train(config(**SUM), tmp_path)
    sent = [each for way, each in envelopes(tmp_path / "parties" / "advertiser" / "transcript") if way == "sent"]
    gradients = {}
    for envelope in sent:
        if envelope.kind == Kind.GRADIENT:
            gradients.setdefault(envelope.step, []).append(envelope.body)
    assert all(torch.equal(*bodies) for bodies in gradients.values())
    assert "one>two" in edges(fit)


def test_a_publisher_that_stays_away_ends_the_run(tmp_path):
    """Its masks cannot be taken out of the sum: going on without it is refused."""

    class Gone(FaultyCarrier):
        def carry(self, messages):
            from vfl.wire import read_step

            late = any(read_step(message.content)[0].index >= 15 for message in messages) or self.counts
            if late and any(self._party(message) == "two" for message in messages):
                self.counts["gone"] = 1
                raise PartyGoneError("two died", "two")
            return self.inner.carry(messages)

    def make(specs, asked, largest):
        grid = local_grid(specs, asked.transport)
        return PartyGrid(grid.roster, Gone(grid.roster, grid.carrier, Faults(), Seeds(0).numpy("x")))

    faults = {"restarts": 0, "without": "impute"}
    asked = config(**SUM, train={"epochs": 3, "batch_size": 64, "checkpoint_every": 4}, faults=faults)
    with pytest.raises(PartyGoneError, match="nothing that it sent can stand in"):
        train(asked, tmp_path, make)


def test_a_defense_on_masked_embeddings_and_unequal_widths_are_refused():
    with pytest.raises(ConfigError, match="a method that heeds it"):
        check_members(config(**SUM, defense=[{"name": "clipped_gaussian", "on": "embedding"}]))
    wide = {"embedding_dim": 4, "parties": {"two": {"embedding_dim": 5}}}
    with pytest.raises(ConfigError, match="one width"):
        train(config(**{**SUM, "model": wide}))


@pytest.fixture
def begun():
    """A run whose parties have their rows: its coordinator, and its parties by name."""
    from experiments.plan import coordinator_plan, open_world, party_specs
    from vfl.coordinator import Coordinator, Fit

    asked = config(**SUM)
    specs = party_specs(asked, open_world(asked), None)
    roster, parties = specs[0].roster, {spec.party: make_party(spec) for spec in specs}
    grid = PartyGrid(roster, LocalCarrier(roster, parties), "relay")
    coordinator = Coordinator(grid, coordinator_plan(asked), Fit(), Deaf())
    coordinator.begin()
    yield coordinator, parties
    grid.close()


def steps_of(coordinator, phase):
    from vfl.coordinator import phase_steps

    return [step for step, _ in phase_steps(phase, coordinator.fit.rows(phase.pool))]


def test_no_mask_is_used_twice_in_a_round(begun):
    """Two bodies under one mask would show the advertiser the difference of two embeddings."""
    coordinator, parties = begun
    agree, training = coordinator.plan.phases
    coordinator.play(agree.hops, steps_of(coordinator, agree)[0])
    first, second = steps_of(coordinator, training)[:2]
    player = parties["one"].player
    player.handler("forward")(replace(first, index=5), {})
    with pytest.raises(WireError, match="a mask is used once"):
        player.handler("forward")(replace(second, index=5), {})


def test_a_publisher_that_is_given_no_key_to_mask_with_sends_nothing(begun):
    """A coordinator that leaves keys out would get embeddings without a mask."""
    coordinator, parties = begun
    step = steps_of(coordinator, coordinator.plan.phases[0])[0]
    with pytest.raises(WireError, match="one got no key to mask with of two; nothing is sent"):
        parties["one"].player.handler("agree")(step, {})


def test_a_party_takes_part_in_one_run_of_its_folder(tmp_path):
    """Masks and other secrets are drawn once for a folder: a second run from it would use them again."""
    from vfl.errors import PartyError

    train(config(**SUM), tmp_path)
    with pytest.raises((PartyError, WireError), match="takes part in it once"):
        train(config(**SUM), tmp_path)
