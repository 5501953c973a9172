"""The view's tables: envelopes laid end to end, against a slow twin that goes row by row."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vfl.transcript import AdversaryView, pool
from vfl.types import Envelope, Kind

PARTIES = ("publisher_1", "publisher_2")


def envelope(step: int, kind: Kind, party: str, rows: torch.Tensor, dim: int = 2) -> Envelope:
    """A body whose every value names its step, party, row and column."""
    value = step * 1000.0 + PARTIES.index(party) * 100 + rows[:, None] * 10
    return Envelope(step, kind, "advertiser", party, rows, value + torch.arange(dim))


STEPS = st.lists(st.integers(0, 50), unique=True, max_size=6)


@settings(deadline=None)
@given(STEPS, st.integers(1, 2), st.randoms(use_true_random=False))
def test_pool_is_what_a_row_by_row_twin_gives(steps, parties, rng):
    found, slow = [], []
    for step in steps:
        rows = torch.tensor(rng.sample(range(10), rng.randint(1, 5)))
        group = [envelope(step, Kind.GRADIENT, party, rows, dim=2) for party in PARTIES[:parties]]
        found += [*group, envelope(step, Kind.EMBEDDING, PARTIES[0], rows)]
        for at, row in enumerate(rows.tolist()):
            slow.append((step, row, [value for one in group for value in one.body[at].tolist()]))
    rng.shuffle(found)
    found.sort(key=lambda one: one.dst)
    got = pool(found, Kind.GRADIENT)
    slow.sort(key=lambda entry: entry[0])
    assert list(zip(got.steps.tolist(), got.rows.tolist(), got.body.tolist(), strict=True)) == slow


def test_colluding_parties_share_the_rows_and_steps_that_both_were_about():
    """As under RISA, where a step's rows are the aligned ones and some of each party's own."""
    one, other = torch.tensor([4, 1, 7, 90]), torch.tensor([7, 80, 4, 1])
    lone = envelope(2, Kind.GRADIENT, PARTIES[0], one)
    seen = pool(
        [
            envelope(1, Kind.GRADIENT, PARTIES[0], one),
            envelope(1, Kind.GRADIENT, PARTIES[1], other),
            lone,
        ],
        Kind.GRADIENT,
    )
    assert seen.rows.tolist() == [4, 1, 7]
    assert seen.steps.tolist() == [1, 1, 1]
    base = 1000.0 + seen.rows.double() * 10
    assert torch.equal(seen.body.double(), torch.stack([base, base + 1, base + 100, base + 101], dim=1))


def test_batches_are_the_steps_in_order():
    sizes = {7: 3, 2: 1, 30: 4}
    seen = pool(
        [envelope(step, Kind.GRADIENT, PARTIES[0], torch.arange(size)) for step, size in sizes.items()], Kind.GRADIENT
    )
    batches = seen.batches()
    assert [(set(batch.steps.tolist()), len(batch.rows)) for batch in batches] == [({2}, 1), ({7}, 3), ({30}, 4)]
    assert torch.equal(torch.cat([batch.body for batch in batches]), seen.body)


def test_nothing_of_a_kind_is_an_empty_table():
    nothing = pool([envelope(1, Kind.EMBEDDING, PARTIES[0], torch.arange(3))], Kind.GRADIENT)
    assert (len(nothing.steps), len(nothing.rows), nothing.body.shape) == (0, 0, (0, 0))
    assert nothing.batches() == []


def test_gradients_are_received_and_embeddings_are_sent():
    rows = torch.arange(3)
    sent, received = (
        tuple(envelope(step, kind, PARTIES[0], rows) for kind in (Kind.EMBEDDING, Kind.GRADIENT)) for step in (1, 2)
    )
    view = AdversaryView((PARTIES[0],), 2, sent, received)
    assert set(view.gradients().steps.tolist()) == {2}
    assert set(view.embeddings().steps.tolist()) == {1}


def test_a_view_cannot_be_changed_and_grants_no_label_unasked():
    view = AdversaryView((PARTIES[0],), 2, (), ())
    with pytest.raises(dataclasses.FrozenInstanceError):
        view.classes = 3  # type: ignore[misc]
    assert len(view.hints.rows) == len(view.hints.labels) == 0
