"""Bootstrap intervals against closed-form standard errors and weighted scikit-learn figures."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from vfl.metrics.intervals import (
    bootstrap_auc,
    bootstrap_mean,
    percentile_interval,
    rank,
    resample_counts,
    two_sided_p,
    weighted_auc,
    weighted_average_precision,
)


def sample(rows=400, seed=0, digits=None):
    rng = np.random.default_rng(seed)
    positive = rng.random(rows) < 0.2
    scores = rng.normal(size=rows) + positive
    return scores if digits is None else np.round(scores, digits), positive


@pytest.mark.parametrize("digits", [None, 1, 0])
def test_weighted_figures_are_sklearns(digits):
    scores, positive = sample(digits=digits)
    weights = np.random.default_rng(1).integers(0, 4, (5, len(scores))).astype(float)
    ranking = rank(scores, positive)
    for row, auc, precision in zip(
        weights, weighted_auc(weights, ranking), weighted_average_precision(weights, ranking), strict=True
    ):
        assert auc == pytest.approx(roc_auc_score(positive, scores, sample_weight=row), rel=1e-12)
        assert precision == pytest.approx(average_precision_score(positive, scores, sample_weight=row), rel=1e-12)


def test_figures_of_one_class_do_not_exist():
    weights = np.ones((1, 3))
    for positive in ([True] * 3, [False] * 3):
        ranking = rank(np.arange(3.0), np.array(positive))
        assert np.isnan(weighted_auc(weights, ranking))
        assert np.isnan(weighted_average_precision(weights, ranking))


@pytest.mark.parametrize("items", [1, 7, 400_000])
def test_counts_are_draws_with_replacement(items):
    chunks = list(resample_counts(items, 3, np.random.default_rng(0)))
    counts = np.concatenate(chunks)
    assert counts.shape == (3, items)
    assert (counts.sum(axis=1) == items).all()
    if items > 1000:
        assert (counts == 0).mean() == pytest.approx(np.exp(-1), abs=0.002)
        assert len(chunks) == 3


def test_chunks_are_drawn_apart():
    counts = np.concatenate(list(resample_counts(200_000, 4, np.random.default_rng(0))))
    assert np.abs(np.corrcoef(counts) - np.eye(4)).max() < 0.02


def test_auc_spread_is_that_of_delong():
    """The variance of the AUC from its placements, the closed form of DeLong et al."""
    scores, positive = sample(2000)
    wins = (scores[positive][:, None] > scores[~positive]).astype(float)
    variance = wins.mean(axis=1).var(ddof=1) / positive.sum() + wins.mean(axis=0).var(ddof=1) / (~positive).sum()
    drawn = bootstrap_auc(scores, positive, np.random.default_rng(2), resamples=3000)
    assert drawn.std() == pytest.approx(variance**0.5, rel=0.06)
    assert drawn.mean() == pytest.approx(roc_auc_score(positive, scores), abs=0.001)


def test_mean_spread_is_the_standard_error():
    values = np.random.default_rng(3).exponential(size=500)
    drawn = bootstrap_mean(values, np.random.default_rng(4), resamples=4000)
    assert drawn.std() == pytest.approx(values.std() / 500**0.5, rel=0.05)
    low, high = percentile_interval(drawn)
    assert (low + high) / 2 == pytest.approx(values.mean(), abs=0.01)


def test_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(5)
    intervals = [percentile_interval(bootstrap_mean(rng.normal(size=80), rng)) for _ in range(400)]
    covered = sum(low < 0 < high for low, high in intervals) / 400
    assert covered == pytest.approx(0.95, abs=0.035)


def test_interval_level_and_missing_values():
    values = np.arange(1001.0)
    assert percentile_interval(values, 0.9) == pytest.approx([50, 950])
    assert percentile_interval(np.append(values, np.nan), 0.9) == pytest.approx([50, 950])
    assert percentile_interval(np.array([np.nan])) is None
    assert percentile_interval(bootstrap_mean(np.empty(0), np.random.default_rng(0))) is None


def test_p_value_of_plain_cases():
    assert two_sided_p(np.zeros(99)) == 1.0
    assert two_sided_p(np.ones(99)) == pytest.approx(0.02)
    assert two_sided_p(-np.ones(99)) == pytest.approx(0.02)
    assert two_sided_p(np.array([-1.0] * 9 + [1.0] * 90)) == pytest.approx(0.2)
    assert two_sided_p(np.array([np.nan])) is None


def test_p_value_is_uniform_where_there_is_no_difference():
    rng = np.random.default_rng(6)
    found = np.array([two_sided_p(bootstrap_mean(rng.normal(size=100), rng, 200)) for _ in range(400)])
    assert (found < 0.1).mean() == pytest.approx(0.1, abs=0.045)
    assert (found < 0.5).mean() == pytest.approx(0.5, abs=0.08)


def test_same_generator_gives_the_same_draws():
    scores, positive = sample()
    first, again, other = (bootstrap_auc(scores, positive, np.random.default_rng(s), 50) for s in (0, 0, 1))
    assert (first == again).all()
    assert (first != other).any()
