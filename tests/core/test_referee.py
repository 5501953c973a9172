"""The referee: what it grants, what it refuses to score, and what it looks up."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vfl.attacks import Guess
from vfl.errors import VflError
from vfl.metrics.leak_auc import LeakAuc
from vfl.referee import Truth, everything, grant, mark, refuse_hinted
from vfl.sealed import Sealed
from vfl.seeds import Seeds
from vfl.transcript import Hints

TRAIN, TEST = 200, 60


def truth(rate: float = 0.05, classes: int = 2, seed: int = 0) -> Truth:
    labels = torch.rand(TRAIN + TEST, generator=torch.Generator().manual_seed(seed))
    return Truth(Sealed((labels < rate).long() * (classes - 1)), TRAIN, classes)


@settings(deadline=None)
@given(st.integers(0, 250), st.integers(0, 20), st.sampled_from([0.05, 0.5, 0.95]))
def test_a_grant_is_so_many_training_rows_with_their_labels(k, seed, rate):
    held = truth(rate)
    granted = grant(held, k, Seeds(seed))
    rows = granted.rows.tolist()
    assert len(rows) == min(k, TRAIN)
    assert len(set(rows)) == len(rows)
    assert all(0 <= row < TRAIN for row in rows)
    assert torch.equal(granted.labels, held.labels.open()[granted.rows])


@pytest.mark.parametrize(("rate", "rarer"), [(0.05, 1), (0.9, 0)])
def test_the_rarer_class_is_known_first(rate, rarer):
    for seed in range(20):
        assert grant(truth(rate), 1, Seeds(seed)).labels.tolist() == [rarer]
        assert sorted(grant(truth(rate), 2, Seeds(seed)).labels.tolist()) == [0, 1]


def test_one_of_each_class_before_a_second_of_any():
    labels = torch.tensor([0] * 50 + [1] * 5 + [2] * 20 + [3] * 1)
    held = Truth(Sealed(labels), len(labels), 4)
    for seed in range(10):
        assert grant(held, 4, Seeds(seed)).labels.tolist() == [3, 1, 2, 0]
        assert grant(held, 3, Seeds(seed)).labels.tolist() == [3, 1, 2]


def test_a_class_without_training_rows_is_passed_over():
    held = Truth(Sealed(torch.tensor([0, 0, 1, 2])), 3, 3)
    assert grant(held, 2, Seeds(0)).labels.tolist() == [1, 0]


def test_the_same_stream_grants_the_same_rows_and_more_are_added_behind():
    held = truth()
    assert torch.equal(grant(held, 9, Seeds(1)).rows, grant(held, 9, Seeds(1)).rows)
    assert torch.equal(grant(held, 9, Seeds(1)).rows, grant(held, 30, Seeds(1)).rows[:9])
    assert not torch.equal(grant(held, 9, Seeds(1)).rows, grant(held, 9, Seeds(2)).rows)


def test_every_row_of_a_class_is_as_likely():
    """Of the common class each of 190 rows is drawn with 28 of 189 or so; a fixed choice would draw some always."""
    held = truth()
    counts = torch.zeros(TRAIN)
    for seed in range(400):
        counts[grant(held, 30, Seeds(seed)).rows] += 1
    common = counts[held.labels.open()[:TRAIN] == 0]
    share = common.mean().item() / 400
    assert common.std().item() == pytest.approx((400 * share * (1 - share)) ** 0.5, rel=0.2)


def test_everything_is_all_training_rows():
    held = truth()
    granted = everything(held)
    assert torch.equal(granted.rows, torch.arange(TRAIN))
    assert torch.equal(granted.labels, held.labels.open()[:TRAIN])


def guess(rows: list[int]) -> Guess:
    return Guess("labels", torch.zeros(len(rows), dtype=torch.int64), torch.tensor(rows), torch.arange(len(rows)) * 1.0)


def test_a_guess_at_hinted_rows_is_refused():
    hints = Hints(torch.tensor([3, 5]), torch.tensor([1, 0]))
    with pytest.raises(VflError, match="scored 3 entries"):
        refuse_hinted(guess([1, 3, 4, 5, 3]), hints)
    refuse_hinted(guess([1, 4, 6]), hints)
    refuse_hinted(guess([1, 4, 6]), Hints())


def test_marks_are_the_metric_on_the_labels_of_the_guessed_rows():
    held, rows = truth(rate=0.3), torch.randperm(TRAIN, generator=torch.Generator().manual_seed(1))[:80]
    guessed = Guess("labels", torch.arange(80) // 20, rows, torch.randn(80, generator=torch.Generator().manual_seed(2)))
    labels = torch.tensor([held.labels.open()[row].item() for row in rows])
    expected = LeakAuc().result(guessed, labels, np.random.default_rng(Seeds(4).at("intervals")))
    assert mark(guessed, held, LeakAuc(), Seeds(4)) == expected
