"""Plain alignment against sets and dictionaries: who shares which row, under which handle, and who holds the rest."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vfl.align import Alignment, _matching
from vfl.align._ids import as_body, as_keys
from vfl.align._matching import handle_order, settle
from vfl.align.plain import Plain
from vfl.errors import WireError
from vfl.seeds import Seeds
from vfl.types import Envelope, Kind, Pool, Step

STEP = Step(0, "align", Pool.TRAIN)
IDS = st.lists(st.integers(-(2**62), 2**62) | st.integers(0, 12), unique=True, max_size=12)
NO_ROWS = torch.empty(0, dtype=torch.int64)


def align(own: list[int], pools: list[int], offers: list[list[int]], seed: int = 0) -> tuple[Alignment, ...]:
    """Play the round by hand; returns the advertiser's alignment and each publisher's."""
    seeds, names = Seeds(seed), tuple(f"publisher_{place}" for place in range(len(offers)))
    ids, codes = (torch.tensor(values, dtype=torch.int64) for values in (own, pools))
    advertiser = Plain().advertiser(ids, codes, seeds, names)
    sides = {
        name: Plain().publisher(torch.tensor(o, dtype=torch.int64), seeds)
        for name, o in zip(names, offers, strict=True)
    }
    offered = {
        name: Envelope(0, Kind.PSI, name, "advertiser", NO_ROWS, side.offer(STEP, {}).bodies["advertiser"])
        for name, side in sides.items()
    }
    matched = advertiser.match(STEP, offered)
    assert set(matched.bodies) == {*names, "referee"}
    for name, side in sides.items():
        body = matched.bodies[name]
        side.settle(STEP, {"advertiser": Envelope(0, Kind.PSI, "advertiser", name, NO_ROWS, body)})
    found = (advertiser.alignment, *(side.alignment for side in sides.values()))
    assert all(alignment is not None for alignment in found)
    return found  # type: ignore[return-value]


@settings(deadline=None, max_examples=150)
@given(IDS, st.lists(IDS, max_size=4), st.data())
def test_rows_shared_are_the_intersection_of_all_sets(own, offers, data):
    pools = data.draw(st.lists(st.integers(0, 2), min_size=len(own), max_size=len(own)))
    found = align(own, pools, offers)
    shared = set(own).intersection(*offers)
    pool_of = dict(zip(own, pools, strict=True))
    by_handle = [own[row] for row in found[0].order]
    for alignment, ids in zip(found, [own, *offers], strict=True):
        assert [ids[row] for row in alignment.order] == by_handle
        assert {ids[row] for row in alignment.only} == set(ids) - shared
        assert sorted([*alignment.order.tolist(), *alignment.only.tolist()]) == list(range(len(ids)))
        sizes = Counter(pool_of[one] for one in shared)
        assert (alignment.train, alignment.valid, alignment.test) == (sizes[0], sizes[1], sizes[2])
    assert set(by_handle) == shared
    assert [pool_of[one] for one in by_handle] == sorted(pool_of[one] for one in by_handle)


@settings(deadline=None, max_examples=150)
@given(IDS, st.lists(IDS, max_size=4))
def test_who_holds_counts_what_a_dictionary_counts(own, offers):
    holders: dict[int, list[str]] = {}
    named = {"advertiser": own, **{f"publisher_{place}": offer for place, offer in enumerate(offers)}}
    for name, ids in named.items():
        for one in ids:
            holders.setdefault(one, []).append(name)
    slow = Counter("+".join(names) for names in holders.values() if len(names) < len(named))
    assert align(own, [0] * len(own), offers)[0].held == slow


def test_publishers_learn_nothing_of_who_else_holds_what():
    _, *publishers = align([1, 2, 3, 4], [0] * 4, [[1, 2, 9], [2, 3]])
    assert all(alignment.held == {} for alignment in publishers)


def test_handles_are_shuffled_within_each_pool_afresh_each_run():
    ids, pools = list(range(300)), [0] * 200 + [1] * 50 + [2] * 50
    one, again, other = (align(ids, pools, [ids], seed)[0].order for seed in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    for start, stop in ((0, 200), (200, 250), (250, 300)):
        part = one[start:stop]
        assert set(part.tolist()) == set(range(start, stop))
        rank = np.corrcoef(part.numpy(), np.arange(start, stop))[0, 1]
        assert abs(rank) < 0.35


def test_every_order_of_handles_is_as_likely():
    """Four rows over 4800 runs: each of the 24 orders is drawn about 200 times (chi-squared, 23 degrees of freedom)."""
    rows, pools = torch.arange(4), torch.zeros(4, dtype=torch.int64)
    drawn = Counter(tuple(handle_order(rows, pools, Seeds(seed)).tolist()) for seed in range(4800))
    assert len(drawn) == 24
    assert sum((count - 200) ** 2 / 200 for count in drawn.values()) < 60


def test_the_order_depends_on_neither_publishers_nor_the_order_of_their_ids():
    ids = list(range(40))
    orders = [align(ids, [0] * 40, offers)[0].order for offers in ([ids], [ids[::-1]], [ids, ids[::-1]], [])]
    assert all(torch.equal(order, orders[0]) for order in orders)


@settings(deadline=None)
@given(st.lists(st.integers(0, 9), unique=True, max_size=8), st.data())
def test_settle_finds_the_row_of_each_announced_place(places, data):
    rows = data.draw(st.permutations(range(10)))
    pools = sorted(data.draw(st.lists(st.integers(0, 2), min_size=len(places), max_size=len(places))))
    announced = torch.tensor([places, pools], dtype=torch.int64).reshape(2, -1).T
    found = settle(announced, torch.tensor(rows))
    assert found.order.tolist() == [rows[place] for place in places]
    assert found.only.tolist() == sorted(set(rows) - set(found.order.tolist()))
    assert [found.train, found.valid, found.test] == [pools.count(code) for code in range(3)]
    assert found.held == {}


REFUSED = {
    "a place not offered": ([[3, 0]], "not offered"),
    "a negative place": ([[-1, 0], [1, 0]], "not offered"),
    "a place twice": ([[2, 0], [2, 0]], "twice"),
    "an unknown pool": ([[0, 0], [1, 3]], "pools"),
    "a negative pool": ([[0, -1], [1, 0]], "pools"),
    "pools out of order": ([[0, 1], [1, 0]], "pools"),
    "too wide": ([[0, 0, 0]], "int64"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_announcement_that_makes_no_sense_is_refused(name):
    announced, message = REFUSED[name]
    with pytest.raises(WireError, match=f"the alignment message of advertiser .*{message}"):
        settle(torch.tensor(announced), torch.tensor([1, 0, 2]))
    with pytest.raises(WireError, match="int64"):
        settle(torch.tensor(announced, dtype=torch.float64), torch.tensor([1, 0, 2]))


@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_keys_are_found_however_many_are_looked_up_at_once(monkeypatch, chunk):
    monkeypatch.setattr(_matching, "_CHUNK", chunk)
    offered = np.array([7, 3, 9, 1, 20])
    wanted = np.array([1, 2, 3, 4, 7, 8, 9, 99, -5])
    place = {key: at for at, key in enumerate(offered.tolist())}
    assert _matching.find(wanted, offered, "publisher").tolist() == [place.get(key, -1) for key in wanted.tolist()]
    assert _matching.find(wanted, offered[:0], "publisher").tolist() == [-1] * len(wanted)


def test_ids_of_any_length_travel_in_the_clear_as_they_are():
    texts = ["", "a", "ß" * 9, "nul\0", "nul", "x" * 300]
    body = as_body(texts).numpy()
    lengths = body[:, :4].copy().view(">u4")[:, 0]
    assert [bytes(row[4 : 4 + n]).decode() for row, n in zip(body, lengths, strict=True)] == texts
    assert len(np.unique(as_keys(body))) == len(texts)
