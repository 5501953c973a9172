from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from experiments.reporting.estimate import Estimate, over_seeds, paired, seeds_needed


def test_the_interval_of_seeds_is_students():
    values = [0.91, 0.87, 0.9, 0.93]
    found = over_seeds(values)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert found is not None
    assert (found.n, found.over) == (4, "seeds")
    assert found.interval == pytest.approx((expected.low, expected.high))
    one_sided = stats.ttest_1samp(values, 0, alternative="less").confidence_interval(0.99)
    assert found.at_most(0.01) == pytest.approx(one_sided.high)


def test_a_single_seed_has_the_interval_of_its_run_or_none():
    assert over_seeds([0.9]) == Estimate(0.9)
    assert over_seeds([0.9], (0.88, 0.92), "rows") == Estimate(0.9, 0.88, 0.92, 1, "rows")
    assert over_seeds([0.9], (0.88, 0.92)).bounds(0.05) is None


def test_missing_values_are_left_out():
    assert over_seeds([float("nan"), None]) is None
    assert over_seeds([float("nan"), 0.5, 0.7]).value == pytest.approx(0.6)


def test_differences_are_paired_by_seed():
    """A seed moves both by far more than they differ: the pairs tell them apart, the means alone would not."""
    rng = np.random.default_rng(0)
    first = {seed: float(rng.normal()) for seed in range(6)}
    second = {seed: value - 0.01 - 0.001 * (seed % 2) for seed, value in first.items()} | {99: 5.0}
    found = paired(first, second)
    assert found.n == 6
    assert found.interval[0] > 0
    assert found.value == pytest.approx(0.0105)
    assert paired({1: 0.5}, {2: 0.5}) is None


@pytest.mark.parametrize(("mean", "std", "bound"), [(0.002, 0.004, 0.005), (0.004, 0.001, 0.005), (0.0, 0.001, 0.005)])
def test_seeds_needed_is_the_first_count_that_suffices(mean: float, std: float, bound: float):
    needed = seeds_needed(Estimate(mean, n=3, std=std), bound, 0.05)
    enough = [Estimate(mean, n=n, std=std).at_most(0.05) <= bound for n in range(2, needed + 1)]
    assert enough == [False] * (needed - 2) + [True]


def test_seeds_cannot_mend_a_mean_that_is_too_high():
    assert seeds_needed(Estimate(0.006, n=3, std=0.001), 0.005, 0.05) is None
    assert seeds_needed(Estimate(0.004, n=1), 0.005, 0.05) is None


def test_ninety_five_of_a_hundred_intervals_hold_the_truth():
    rng = np.random.default_rng(1)
    held = [over_seeds(list(rng.normal(0.7, 0.02, 3))).interval for _ in range(2000)]
    share = np.mean([low <= 0.7 <= high for low, high in held])
    assert 0.935 < share < 0.965


def test_seeds_that_cut_one_table_hold_the_truth_as_often_as_they_say():
    """Mean differences of two models on a quarter of one table's rows, drawn anew by each of five seeds."""
    rng = np.random.default_rng(3)
    held = {0.0: 0, 1 / 3: 0}
    for _ in range(1500):
        table = rng.normal(0.0, 1.0, 400)
        drawn = [float(table[rng.permutation(400)[:100]].mean()) for _ in range(5)]
        for shared in held:
            low, high = over_seeds(drawn, shared=shared).interval
            held[shared] += low <= 0.0 <= high
    assert held[0.0] / 1500 < 0.88
    assert 0.93 < held[1 / 3] / 1500 < 0.985


def test_seeds_of_one_table_may_never_settle_a_bound():
    loose = Estimate(0.004, n=5, std=0.004, shared=0.4)
    assert seeds_needed(loose, 0.005, 0.05) is None
    assert seeds_needed(Estimate(0.004, n=5, std=0.004), 0.005, 0.05) is not None
