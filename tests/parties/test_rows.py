"""Batches: every row of a pool once an epoch, the same rows at every party, and no test label in reach."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from harness import config
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.plan import open_world, party_specs
from parties.local import make_party
from parties.rows import Rows
from parties.table import Resident
from vfl.align import Alignment
from vfl.coordinator import phase_steps
from vfl.data.breast_cancer import BreastCancer
from vfl.data.cut import ALL
from vfl.data.shard import load_ids
from vfl.errors import DataError
from vfl.sealed import Sealed
from vfl.seeds import Seeds
from vfl.types import Phase, Pool, Role, Step

TRAIN, VALID, TEST, ONLY = 50, 10, 15, 5


def party(seed: int, labelled: bool = False) -> tuple[Rows, torch.Tensor]:
    """A party whose table is in an order of its own; column 0 names the person that a row is about."""
    rows = TRAIN + VALID + TEST + ONLY
    place = torch.randperm(rows, generator=torch.Generator().manual_seed(seed))
    person = torch.empty(rows)
    person[place] = torch.arange(rows).float()
    order = place[: TRAIN + VALID + TEST]
    labels = Sealed((person.long() * 7) % 3) if labelled else None
    alignment = Alignment(order, TRAIN, VALID, TEST, place[TRAIN + VALID + TEST :])
    return Rows(Resident(person[:, None], person.long()[:, None]), alignment, labels, Seeds(9).scope("shared")), person


def test_the_table_left_for_after_the_run_holds_aligned_rows_alone():
    rows, person = party(1)
    table = rows.features()
    assert torch.equal(table.rows, torch.arange(TRAIN + VALID + TEST))
    assert torch.equal(person[table.numeric[:, 0].long()], person[table.categorical[:, 0]])
    assert len(table.numeric) == len(table.categorical) == TRAIN + VALID + TEST


def test_more_rows_than_there_are_handles_are_refused_where_two_would_share_one():
    order, only = torch.arange(8), torch.arange(8, 12)
    table = Resident(torch.zeros(12, 1), torch.zeros(12, 0, dtype=torch.int64))
    found = Rows(table, Alignment(order, 8, 0, 0, only), None, Seeds(9).scope("shared"), base=7)
    assert found.handles(Pool.TRAIN).tolist() == list(range(8))
    with pytest.raises(DataError, match="got 8 aligned rows and 4 of one party alone, allowed 7 and"):
        found.handles(Pool.LEFTOVER)


def epoch(rows: Rows, number: int = 0, size: int = 16) -> list[torch.Tensor]:
    steps = [step for step, _ in phase_steps(Phase("train", (), epochs=number + 1, batch_size=size), TRAIN)]
    return [rows.batch(step).rows for step in steps if step.epoch == number]


@settings(deadline=None)
@given(st.integers(1, 60), st.integers(0, 3))
def test_an_epoch_is_the_pool_cut_into_parts(size, number):
    batches = epoch(party(1)[0], number, size)
    assert sorted(torch.cat(batches).tolist()) == list(range(TRAIN))
    sizes = {len(batch) for batch in batches}
    assert max(sizes) <= size
    assert max(sizes) - min(sizes) <= 1


def test_epochs_are_shuffled_apart_and_alike_at_every_party():
    one, other = party(1)[0], party(2, labelled=True)[0]
    orders = [torch.cat(epoch(one, number)) for number in range(3)]
    assert not torch.equal(orders[0], orders[1])
    assert not torch.equal(orders[0], torch.arange(TRAIN))
    for number, order in enumerate(orders):
        assert torch.equal(torch.cat(epoch(other, number)), order)


def test_rows_of_a_batch_are_about_the_same_people_at_every_party():
    one, other = party(1)[0], party(2, labelled=True)[0]
    for pool, span in ((Pool.TRAIN, TRAIN), (Pool.VALID, VALID), (Pool.TEST, TEST)):
        step = Step(3, "any", pool, epoch=1, start=2, size=span - 3, shuffle=pool == Pool.TRAIN)
        ours, theirs = one.batch(step), other.batch(step)
        assert torch.equal(ours.rows, theirs.rows)
        assert torch.equal(ours.numeric, theirs.numeric)
        assert torch.equal(ours.numeric[:, 0], ours.rows.float())
        assert torch.equal(ours.categorical[:, 0], ours.rows)
        assert ours.labels is None
        assert torch.equal(theirs.labels, theirs.rows * 7 % 3)


def test_evaluation_pools_are_in_handle_order_and_do_not_overlap():
    rows = party(1)[0]
    found = {
        pool: rows.batch(Step(0, "x", pool, size=1000)).rows.tolist() for pool in (Pool.TRAIN, Pool.VALID, Pool.TEST)
    }
    assert [*found[Pool.TRAIN], *found[Pool.VALID], *found[Pool.TEST]] == list(range(TRAIN + VALID + TEST))


def test_phases_and_shared_seeds_move_the_order():
    rows = party(1)[0]
    train, other = (
        rows.batch(Step(0, phase, Pool.TRAIN, size=TRAIN, shuffle=True)).rows for phase in ("train", "other")
    )
    assert not torch.equal(train, other)
    expected = torch.randperm(TRAIN, generator=Seeds(9).scope("shared").torch("batches", "train", "train", 0))
    assert torch.equal(train, expected)


def test_every_hop_of_a_step_gets_the_same_object():
    rows, step = party(1)[0], Step(1, "train", Pool.TRAIN, size=8, shuffle=True)
    batch = rows.batch(step)
    assert rows.batch(step) is batch
    assert rows.batch(Step(2, "train", Pool.TRAIN, size=8, shuffle=True)) is not batch


def test_labels_are_looked_up_by_handle_and_only_where_they_are_owned():
    rows, _ = party(2, labelled=True)
    handles = torch.tensor([4, 0, 31])
    assert rows.labels(handles).tolist() == [4 * 7 % 3, 0, 31 * 7 % 3]
    assert rows.labelled
    assert not party(1)[0].labelled
    with pytest.raises(PermissionError, match="holds no labels"):
        party(1)[0].labels(handles)


@pytest.fixture(scope="module")
def advertiser():
    """The advertiser of a run on real data, aligned and prepared, and the data set's own labels by handle."""
    asked = config(align={"overlap": 0.7}, train={"batch_size": 32, "epochs": 2})
    world = open_world(asked)
    (spec,) = (spec for spec in party_specs(asked, world, None) if spec.role == Role.ADVERTISER)
    ids, pools = load_ids(spec.shard), spec.shard.cut.pools()
    holders = spec.shard.cut.holders()
    shared = [place for place, row in enumerate(ids) if holders[row] == ALL]
    order = torch.tensor(sorted(shared, key=lambda place: (pools[ids[place]], -place)))
    train, valid, test = (int((pools[ids[order]] == code).sum()) for code in range(3))
    player = make_party(spec).player
    only = torch.tensor([place for place in range(len(ids)) if place not in set(shared)])
    player.resume({"order": order, "only": only, "counts": torch.tensor([train, valid, test])})
    assert player.prepare()["train"] == train
    return player, torch.from_numpy(BreastCancer().labels(None))[ids[order]], (train, valid, test)


def test_no_batch_of_the_advertiser_holds_a_test_label(advertiser):
    player, truth, (train, valid, test) = advertiser
    for step, _ in phase_steps(Phase("train", (), epochs=2, batch_size=32), train):
        batch = player.batch(step)
        assert torch.equal(batch.labels, truth[batch.rows])
    batch = player.batch(Step(0, "valid", Pool.VALID, size=valid))
    assert torch.equal(batch.labels, truth[train : train + valid])
    batch = player.batch(Step(0, "test", Pool.TEST, size=test))
    assert len(batch.rows) == test > 100
    assert (batch.labels == -1).all()


def test_nor_do_its_defenses(advertiser):
    player, truth, (train, valid, test) = advertiser
    handles = torch.arange(train + valid + test)
    assert torch.equal(player.labels(handles)[: train + valid], truth[: train + valid])
    assert (player.labels(handles)[train + valid :] == -1).all()


def many(count: int, base: int, labelled: bool = False) -> Rows:
    """A party with 20 aligned training rows and `count` of its own; column 0 is its own table's row."""
    table = torch.arange(20 + count)
    labels = Sealed(table % 3) if labelled else None
    alignment = Alignment(table[:20], 20, 0, 0, table[20:])
    stream = torch.Generator().manual_seed(count)
    order = torch.randperm(count, generator=stream)
    return Rows(
        Resident(table[:, None].float(), table[:, None]), alignment, labels, Seeds(9).scope("shared"), base, order
    )


@settings(deadline=None)
@given(st.integers(0, 40), st.integers(0, 40), st.integers(1, 12))
def test_an_epoch_over_everyones_rows_passes_once_over_each_partys(ours, theirs, size):
    parties = [many(ours, 1000), many(theirs, 2000)]
    phase = Phase("x", (), epochs=1, batch_size=size, pool=Pool.UNION)
    steps = [step for step, _ in phase_steps(phase, 20 + ours + theirs)]
    for rows, count, base in zip(parties, (ours, theirs), (1000, 2000), strict=True):
        own = torch.cat([rows.batch(replace(step, pool=Pool.LEFTOVER)).rows for step in steps])
        assert sorted(own.tolist()) == list(range(base, base + count))
    for step in steps:
        assert torch.equal(parties[0].batch(step).rows, parties[1].batch(step).rows)
        assert len(parties[0].batch(step).rows) <= step.size
    assert sorted(torch.cat([parties[0].batch(step).rows for step in steps]).tolist()) == list(range(20))


def test_leftover_handles_lead_back_to_the_partys_own_rows():
    rows = many(6, 1000, labelled=True)
    handles = torch.tensor([1005, 3, 1000])
    batch = rows.take(handles)
    assert batch.numeric[1, 0] == 3
    assert set(rows.take(rows.handles(Pool.LEFTOVER)).numeric[:, 0].tolist()) == set(range(20, 26))
    assert torch.equal(batch.labels, batch.numeric[:, 0].long() % 3)
    assert torch.equal(rows.labels(handles), batch.labels)


def test_of_another_partys_rows_a_party_knows_what_it_believes():
    rows = many(6, 1000, labelled=True)
    asked = torch.tensor([2003, 1, 2001])
    assert rows.labels(asked).tolist() == [-1, 1, -1]
    rows.believe(torch.tensor([2003, 2000]), torch.tensor([2, 1]))
    assert rows.labels(asked).tolist() == [2, 1, -1]
