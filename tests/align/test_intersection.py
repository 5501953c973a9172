"""Every aligner finds the intersection that Python's own sets find, and every party the same rows by handle."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from experiments.align_files import party_names, play
from tests.contracts.members import ALIGNERS, cases, label
from vfl.align import Alignment, Foretold
from vfl.errors import DataError
from vfl.registry import build, names
from vfl.seeds import Seeds

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
NUMBERS = st.integers(-(2**63), 2**63 - 1) | st.integers(0, 9)


def tables(ids):
    """Tables of 2 to 5 parties over a small universe, so that all overlaps come up, disjoint and equal ones too."""
    universe = st.lists(ids, min_size=1, max_size=8, unique=True)
    return universe.flatmap(
        lambda found: st.lists(st.lists(st.sampled_from(found), unique=True), min_size=2, max_size=5)
    )


def align(spec, found, pools=None, seed: int = 0):
    parties = party_names(len(found))
    seeds = {party: Seeds(seed).scope(party) for party in parties}
    return play(build("align", spec), dict(zip(parties, found, strict=True)), seeds, pools)


def shared_rows(alignment: Alignment, ids) -> list:
    return [ids[row] for row in alignment.order.tolist()]


def check(spec, found) -> None:
    played = align(spec, found)
    plain = [each.tolist() if isinstance(each, torch.Tensor) else each for each in found]
    expected = set.intersection(*map(set, plain))
    by_party = dict(zip(party_names(len(found)), plain, strict=True))
    orders = {party: shared_rows(played.alignments[party], ids) for party, ids in by_party.items()}
    for party, ids in by_party.items():
        alignment = played.alignments[party]
        assert orders[party] == orders["advertiser"], "a handle means the same row at every party"
        assert sorted([*alignment.order.tolist(), *alignment.only.tolist()]) == list(range(len(ids)))
        assert (alignment.train, alignment.valid, alignment.test) == (len(expected), 0, 0)
    assert len(orders["advertiser"]) == len(set(orders["advertiser"]))
    assert set(orders["advertiser"]) == expected
    held = played.alignments["advertiser"].held
    mine = set(by_party["advertiser"])
    for who, count in held.items():
        holders = set(who.split("+"))
        if "advertiser" in holders:
            others = [party for party in by_party if party not in holders]
            inside = set.intersection(*(set(by_party[party]) for party in holders))
            assert count == len(inside.difference(*(by_party[party] for party in others)))
    assert sum(count for who, count in held.items() if "advertiser" in who.split("+")) == len(mine - expected)


def test_every_member_has_a_row() -> None:
    assert sorted(ALIGNERS) == names("align")


@pytest.mark.parametrize("spec", cases(ALIGNERS), ids=label)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(found=tables(TEXT))
def test_text_ids_of_any_alphabet(spec, found) -> None:
    check(spec, found)


@pytest.mark.parametrize("spec", cases(ALIGNERS), ids=label)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(found=tables(NUMBERS))
def test_numbers(spec, found) -> None:
    check(spec, [torch.tensor(ids, dtype=torch.int64) for ids in found])


@pytest.mark.parametrize("spec", cases(ALIGNERS), ids=label)
@settings(max_examples=10, deadline=None)
@given(found=tables(st.binary(max_size=4)))
def test_bytes(spec, found) -> None:
    check(spec, found)


CORNERS = {
    "all": [["a", "b", "c"], ["c", "a", "b"]],
    "none": [["a", "b"], ["c", "d"]],
    "one side empty": [[], ["a"]],
    "both empty": [[], [], []],
    "advertiser inside": [["a", "b", "c"], ["b"]],
    "pairs share but not all": [["a", "b"], ["b", "c"], ["c", "a"]],
    "nul bytes and the empty string": [["", "\0", "\0\0", "a\0"], ["\0\0", "a", ""]],
    "composed and decomposed": [["\u00e9", "x"], ["e\u0301", "x"]],
    "beyond the basic plane": [["\U0001f600", "\u4f60\u597d"], ["\u4f60\u597d", "\U0001f600"]],
    "case and white space": [["A", "b ", "c"], ["a", "b", "c"]],
}


@pytest.mark.parametrize("corner", CORNERS)
@pytest.mark.parametrize("spec", cases(ALIGNERS), ids=label)
def test_corners(spec, corner: str) -> None:
    check(spec, CORNERS[corner])


@pytest.mark.parametrize("name", ["ecdh_psi", "salted_hash"])
def test_a_number_is_the_text_that_writes_it(name: str) -> None:
    played = align(name, [["7", "-12", "007"], torch.tensor([-12, 7, 8])])
    assert played.alignments["publisher"].order.sort().values.tolist() == [0, 1]


@pytest.mark.parametrize("spec", cases(ALIGNERS), ids=label)
def test_handles_run_over_the_pools_in_order(spec) -> None:
    ids = [str(place) for place in range(60)]
    pools = torch.arange(60) % 3
    played = align(spec, [ids[10:], ids[:50]], pools[:50])
    order = played.alignments["advertiser"].order
    assert pools[order].diff().ge(0).all()
    for party in ("publisher", "advertiser"):
        alignment = played.alignments[party]
        wanted = torch.bincount(pools[10:50], minlength=3).tolist()
        assert [alignment.train, alignment.valid, alignment.test] == wanted
    assert order.tolist() != sorted(order.tolist(), key=lambda row: (row % 3, row)), "shuffled within each pool"


@pytest.mark.parametrize("spec", cases(ALIGNERS), ids=label)
@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (["a", "b", "c", "b"], r"got the id 'b' in rows 1 and 3"),
        (torch.tensor([5, 6, 5]), r"got the id '5' in rows 0 and 2"),
        ([b"x", b"x"], r"got the id 'x' in rows 0 and 1"),
        (["fine", "\ud800"], "UTF-8 can encode"),
    ],
    ids=["text", "numbers", "bytes", "no UTF-8"],
)
def test_ids_that_cannot_be_matched_are_refused(spec, place: int, ids, message: str) -> None:
    found = [["a"], ["a"]]
    found[place] = ids
    with pytest.raises(DataError, match=message):
        align(spec, found)


@pytest.mark.parametrize("name", ["ecdh_psi", "salted_hash"])
@pytest.mark.parametrize(("listed", "asked"), [(0, 3), (7, 0), (5, 9)])
def test_the_length_of_the_longest_message_is_known_before_it_is_made(name: str, listed: int, asked: int) -> None:
    found = [[f"id {place}" for place in range(count)] for count in (listed, asked)]
    sent = max(each.body.nbytes for each in align({"name": name}, found).envelopes if each.src != "advertiser")
    member = build("align", {"name": name})
    assert isinstance(member, Foretold)
    assert member.answer_bytes(asked, listed) == sent
