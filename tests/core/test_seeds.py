"""Named streams: found by name alone, told apart by it, and telling nothing of each other."""

from __future__ import annotations

import hashlib
import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from vfl.seeds import Seeds

NAMES = st.lists(st.one_of(st.integers(), st.text(max_size=4)), max_size=4).map(tuple)


def test_a_stream_is_the_hash_of_its_name():
    """The derivation, written out: a change of it moves every stream of every stored run."""
    parts = [b"7", b"str:publisher_1", b"str:defense", b"int:0", b"int:12"]
    digest = hashlib.sha256(b"".join(len(part).to_bytes(4, "little") + part for part in parts)).digest()
    assert Seeds(7).at("publisher_1", "defense", 0, 12) == int.from_bytes(digest[:8], "little") // 2


def test_using_or_adding_a_stream_moves_no_other():
    alone = Seeds(0).torch("bottom").initial_seed(), torch.randn(5, generator=Seeds(0).torch("bottom"))
    seeds = Seeds(0)
    for name in range(50):
        torch.randn(3, generator=seeds.torch("added", name))
        seeds.numpy("added", name).normal(size=3)
        seeds.scope("added", name)
    assert seeds.torch("bottom").initial_seed() == alone[0]
    assert torch.equal(torch.randn(5, generator=seeds.torch("bottom")), alone[1])


@settings(deadline=None)
@given(NAMES, NAMES)
def test_streams_of_two_names_are_two(one, other):
    assert (Seeds(0).at(*one) == Seeds(0).at(*other)) == (one == other)
    assert (Seeds(0).scope(*one) == Seeds(0).scope(*other)) == (one == other)


@pytest.mark.parametrize(
    ("one", "other"), [((1,), ("1",)), ((1,), (True,)), (("a", "b"), ("ab",)), (("a",), ("a", ""))]
)
def test_names_that_look_alike_are_two(one, other):
    assert Seeds(0).at(*one) != Seeds(0).at(*other)


def test_roots_give_other_streams():
    assert len({Seeds(root).at("x") for root in range(1000)}) == 1000


def test_a_scope_is_a_root_of_its_own():
    """A party holds its own scope and the shared one: neither names a stream of the parent or of a sibling."""
    seeds = Seeds(3)
    scopes = {name: seeds.scope(name) for name in ("publisher_1", "publisher_2", "shared")}
    assert len({scope.root for scope in scopes.values()}) == 3
    assert all(isinstance(scope.root, bytes) and len(scope.root) == 32 for scope in scopes.values())
    reached = {scope.at(*name) for scope in scopes.values() for name in [("x",), ("publisher_2", "x"), ("..", "x")]}
    assert len(reached) == 9
    assert seeds.at("x") not in reached
    assert scopes["publisher_1"].scope("publisher_2") != scopes["publisher_2"]
    assert scopes["publisher_1"].scope("publisher_2").at("x") != scopes["publisher_2"].at("x")


def test_a_scope_is_bound_to_the_whole_of_its_parent():
    """Scopes of all small roots differ in about half of their bits, so none is found from another by a shift."""
    roots = [np.unpackbits(np.frombuffer(Seeds(root).scope("shared").root, np.uint8)) for root in range(40)]
    distances = [int((a != b).sum()) for place, a in enumerate(roots) for b in roots[:place]]
    assert min(distances) > 80
    assert np.mean(distances) == pytest.approx(128, abs=3)


def test_seeds_fit_both_libraries_and_are_spread_evenly():
    found = np.array([Seeds(0).at("step", step) for step in range(4000)])
    assert found.min() >= 0
    assert found.max() < 2**63
    assert stats.kstest(found / 2**63, "uniform").pvalue > 1e-3
    assert {int(value) & 1 for value in found} == {0, 1}


def test_streams_of_neighbouring_steps_are_independent():
    drawn = torch.stack([torch.randn(200, generator=Seeds(0).torch("noise", step)) for step in range(50)]).double()
    assert (torch.corrcoef(drawn) - torch.eye(50)).abs().max() < 0.35
    assert stats.kstest(drawn.flatten().numpy(), "norm").pvalue > 1e-3
    other = np.stack([Seeds(0).numpy("noise", step).normal(size=200) for step in range(50)])
    assert stats.kstest(other.flatten(), "norm").pvalue > 1e-3


def test_initialising_draws_from_its_stream_and_leaves_the_global_ones_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002 - the global one
    with Seeds(0).initialising("bottom"):
        first = torch.nn.Linear(3, 2).weight
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002 - the global one
    assert random.getstate() == before[2]
    torch.manual_seed(99)
    with Seeds(0).initialising("bottom"):
        second = torch.nn.Linear(3, 2).weight
    with Seeds(0).initialising("top"):
        other = torch.nn.Linear(3, 2).weight
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_initialising_restores_the_global_state_after_an_error():
    before = torch.get_rng_state()
    with pytest.raises(RuntimeError), Seeds(0).initialising("bottom"):
        torch.nn.Linear(3, 2)(torch.randn(3, 4))
    assert torch.equal(torch.get_rng_state(), before)
