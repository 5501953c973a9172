"""Leak AUC against scikit-learn batch by batch, simulated chance, and a score whose sign is flipped."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.metrics import roc_auc_score

from vfl.attacks import Guess
from vfl.metrics.leak_auc import LeakAuc, chance

RATE = 0.03


def guess(steps, scores) -> Guess:
    return Guess("labels", torch.as_tensor(steps), torch.arange(len(steps)), torch.as_tensor(np.asarray(scores)))


def result(steps, scores, labels, seed=0, **options):
    return LeakAuc(**options).result(guess(steps, scores), torch.as_tensor(labels), np.random.default_rng(seed))


@pytest.fixture
def uneven():
    """Batches of unequal size in mixed order, tied scores, some batches of one class."""
    rng = np.random.default_rng(1)
    steps = rng.permutation(np.repeat(np.arange(0, 120, 3), rng.integers(5, 60, 40)))
    labels = (rng.random(len(steps)) < RATE).astype(np.int64)
    scores = np.round(rng.normal(size=len(steps)) + labels, 1)
    return steps, scores, labels


@pytest.mark.parametrize("epochs", [1, 5])
def test_the_interval_holds_the_truth_about_as_often_as_it_says(epochs):
    """A score that is each row's own, N(0.5 y, 1): epochs repeat it, and must not narrow the interval."""
    rng, true = np.random.default_rng(0), stats.norm.cdf(0.5 / np.sqrt(2))
    held, runs, rows, batches = 0, 300, 400, 8
    for _ in range(runs):
        labels = (rng.random(rows) < 0.1).astype(np.int64)
        own = rng.normal(size=rows) + 0.5 * labels
        seen = np.concatenate([rng.permutation(rows) for _ in range(epochs)])
        steps = np.repeat(np.arange(epochs * batches), rows // batches)
        told = Guess("labels", torch.as_tensor(steps), torch.as_tensor(seen), torch.as_tensor(own[seen]))
        found = LeakAuc(resamples=200).result(told, torch.as_tensor(labels[seen]), np.random.default_rng(1))
        held += found["ci"][0] <= true <= found["ci"][1]
    assert 0.88 <= held / runs <= 0.98


def per_batch(steps, scores, labels) -> np.ndarray:
    batches = [steps == step for step in np.unique(steps)]
    return np.array([roc_auc_score(labels[b], scores[b]) for b in batches if 0 < labels[b].sum() < b.sum()])


def test_matches_sklearn_batch_by_batch(uneven):
    found, expected = result(*uneven), per_batch(*uneven)
    assert found["leak_auc"] == pytest.approx(expected.mean(), rel=1e-12)
    assert found["sign_free"] == pytest.approx(np.maximum(expected, 1 - expected).mean(), rel=1e-12)
    assert found["abs_q95"] == pytest.approx(np.quantile(np.abs(expected - 0.5), 0.95), rel=1e-12)
    assert (found["batches"], found["skipped"]) == (len(expected), 40 - len(expected))
    assert found["skipped"] > 0
    assert (found["prior_only"], found["ci_over"]) == (0.5, "batches")


def test_pooled_is_one_auc_over_scores_standardised_within_batches(uneven):
    steps, scores, labels = uneven
    z = np.empty_like(scores)
    for step in np.unique(steps):
        z[steps == step] = stats.zscore(scores[steps == step])
    assert result(*uneven)["leak_auc_pooled"] == pytest.approx(roc_auc_score(labels, np.round(z, 9)), rel=1e-9)
    shift = 1000.0 * steps + 1
    assert result(steps, scores * (1 + steps) + shift, labels)["leak_auc_pooled"] == pytest.approx(
        result(*uneven)["leak_auc_pooled"], abs=1e-3
    )


def test_a_batch_of_one_score_stays_at_the_middle_of_the_pool():
    steps, labels = [0, 0, 0, 1, 1, 1], [0, 0, 1, 0, 0, 1]
    found = result(steps, [1.0, 2.0, 3.0, 0.1, 0.1, 0.1], labels)
    assert found["leak_auc_pooled"] == roc_auc_score(labels, [-1, 0, 1, 0, 0, 0])
    assert found["leak_auc"] == 0.75


@pytest.mark.parametrize("score", [0.1, 0.3, 1 / 3, 1e6 + 0.1])
def test_rounding_does_not_move_a_batch_of_one_score(score):
    """The mean of equal numbers may differ from them in the last place: that is not a spread."""
    steps, labels = [0] * 4 + [1] * 11, [0, 0, 1, 1] + [1] + [0] * 10
    scores = [-2.0, -1.0, 1.0, 2.0] + [score] * 11
    expected = roc_auc_score(labels, [-2, -1, 1, 2] + [0] * 11)
    assert result(steps, scores, labels)["leak_auc_pooled"] == pytest.approx(expected)


def test_flipping_signs_batch_by_batch_hides_nothing():
    """A defense that only mixes up the sign: the mean reads 0.5, the sign-free figures read 1."""
    steps = np.repeat(np.arange(200), 50)
    labels = np.tile([1] * 5 + [0] * 45, 200)
    scores = (labels + 0.1) * np.where(steps % 2, 1.0, -1.0)
    found = result(steps, scores, labels)
    assert found["leak_auc"] == pytest.approx(0.5)
    assert found["sign_free"] == pytest.approx(1.0)
    assert found["abs_q95"] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("ones", "zeros", "expected"), [(256, 768, 0.041), (10, 1014, 0.18), (36, 988, 0.096), (32, 96, 0.115)]
)
def test_floor_reference_values(ones, zeros, expected):
    """The catalogue's: 1.96 sqrt((n1 + n0 + 1) / (12 n1 n0))."""
    assert chance(np.array([ones]), np.array([zeros]))["abs_q95"] == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize("compositions", [[(1, 255)], [(1, 4)], [(2, 62), (1, 63), (5, 59)], [(30, 98), (98, 30)]])
def test_chance_is_what_random_scores_give(compositions):
    rng = np.random.default_rng(2)
    drawn = []
    for ones, zeros in compositions:
        ranks = rng.random((8000, ones + zeros)).argsort(axis=1).argsort(axis=1) + 1.0
        drawn.append((ranks[:, :ones].sum(axis=1) - ones * (ones + 1) / 2) / (ones * zeros))
    auc = np.stack(drawn)
    expected = chance(*(np.array(part) for part in zip(*compositions, strict=True)))
    assert expected["sign_free"] == pytest.approx(np.maximum(auc, 1 - auc).mean(), abs=0.006)
    assert expected["abs_q95"] == pytest.approx(np.quantile(np.abs(auc - 0.5), 0.95), rel=0.05)
    assert expected["leak_auc"] == 0.5


def test_random_scores_land_on_their_own_chance():
    rng = np.random.default_rng(3)
    steps = np.repeat(np.arange(2000), 64)
    found = result(steps, rng.normal(size=len(steps)), (rng.random(len(steps)) < RATE).astype(np.int64))
    assert found["sign_free"] == pytest.approx(found["chance"]["sign_free"], abs=0.01)
    assert found["abs_q95"] == pytest.approx(found["chance"]["abs_q95"], abs=0.02)
    assert found["leak_auc"] == pytest.approx(0.5, abs=0.02)
    assert found["leak_auc_pooled"] == pytest.approx(0.5, abs=0.02)


def test_interval_covers_chance_as_often_as_it_says():
    rng = np.random.default_rng(6)
    steps = np.repeat(np.arange(40), 16)
    labels = np.tile([1] * 2 + [0] * 14, 40)
    found = [result(steps, rng.normal(size=len(steps)), labels)["ci"] for _ in range(300)]
    assert sum(low <= 0.5 <= high for low, high in found) / 300 == pytest.approx(0.95, abs=0.04)


def test_interval_is_as_wide_as_the_standard_error_says():
    steps = np.repeat(np.arange(300), 64)
    rng = np.random.default_rng(4)
    labels = (rng.random(len(steps)) < RATE).astype(np.int64)
    found = result(steps, rng.normal(size=len(steps)), labels, resamples=2000)
    aucs = per_batch(steps, rng.normal(size=len(steps)), labels)
    error = aucs.std() / len(aucs) ** 0.5
    assert found["ci"][1] - found["ci"][0] == pytest.approx(2 * 1.96 * error, rel=0.15)


def test_same_generator_gives_the_same_interval(uneven):
    assert result(*uneven, seed=5) == result(*uneven, seed=5)
    assert result(*uneven, seed=5)["ci"] != result(*uneven, seed=6)["ci"]


def test_nothing_to_mark_is_none_not_a_number():
    for steps, labels in (([], []), ([0, 0, 1], [0, 0, 1])):
        found = result(np.array(steps, dtype=np.int64), np.zeros(len(steps)), np.array(labels, dtype=np.int64))
        assert found["batches"] == 0
        assert found["skipped"] == len(set(steps))
        assert all(found[name] is None for name in ("leak_auc", "abs_q95", "sign_free", "chance", "ci", "prior_only"))


def test_two_columns_count_as_their_difference(uneven):
    steps, scores, labels = uneven
    assert result(steps, np.stack([-scores, scores], axis=1), labels) == result(steps, 2 * scores, labels)


@pytest.mark.parametrize(
    ("scores", "labels"),
    [([[0.1, 0.2, 0.7]] * 2, [0, 1]), ([0.1, 0.2], [0, 2]), ([0.1, np.nan], [0, 1]), ([0.1, 0.2], [0, 1, 1])],
    ids=["three-columns", "three-classes", "not-finite", "not-aligned"],
)
def test_refuses_what_it_cannot_mark(scores, labels):
    with pytest.raises(ValueError, match="got"):
        result([0, 0], scores, labels)


@pytest.mark.parametrize(("ones", "zeros"), [(2, 3), (3, 4), (4, 4)])
def test_the_spread_of_chance_is_that_of_all_orders_of_a_batch(ones, zeros):
    """Every way to rank the positives is as likely: the floor is made from the standard deviation of their AUCs."""
    ranked = itertools.combinations(range(1, ones + zeros + 1), ones)
    aucs = [(sum(ranks) - ones * (ones + 1) / 2) / (ones * zeros) for ranks in ranked]
    floor = chance(np.array([ones]), np.array([zeros]))["sign_free"]
    assert floor == pytest.approx(0.5 + np.std(aucs) * np.sqrt(2 / np.pi), rel=1e-12)
