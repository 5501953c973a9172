"""Columns dealt by importance and correlation, and holdouts in time."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from harness import config

from experiments.plan import open_world
from vfl.data.breast_cancer import COLUMNS, BreastCancer
from vfl.data.partition import Correlation, Importance, correlations, icor
from vfl.data.timing import by_time
from vfl.errors import ConfigError, DataError
from vfl.seeds import Seeds


def never(names):
    raise AssertionError("importance reads no value")


@pytest.mark.parametrize("parties", [2, 4])
def test_importance_deals_every_column_once_and_none_goes_empty(parties):
    for seed in range(20):
        dealt = Importance(alpha=0.2, parties=parties).deal(COLUMNS, never, Seeds(seed))
        assert sorted(name for names in dealt.values() for name in names) == sorted(COLUMNS)
        assert min(map(len, dealt.values())) >= 1
        assert list(dealt)[-1] == "advertiser"
    assert dealt == Importance(alpha=0.2, parties=parties).deal(COLUMNS, never, Seeds(19))


def test_alpha_sets_how_uneven_the_parties_are():
    """Shares of a symmetric Dirichlet have the variance (K - 1) / (K^2 (K alpha + 1))."""
    columns = [f"c{place}" for place in range(2000)]
    for alpha in (0.5, 5.0):
        shares = [
            [len(names) / len(columns) for names in Importance(alpha, 4).deal(columns, never, Seeds(seed)).values()]
            for seed in range(300)
        ]
        assert np.var(shares) == pytest.approx(3 / (16 * (4 * alpha + 1)), rel=0.2)


def read(names):
    return BreastCancer().read(names, None)


def owners(dealt, columns):
    places = {name: place for place, names in enumerate(dealt.values()) for name in names}
    return np.array([places[name] for name in columns])


def test_correlation_reaches_the_extremes_that_trying_everything_finds():
    columns = COLUMNS[:8]
    matrix = correlations(read(columns))
    every = [icor(matrix, np.isin(np.arange(8), chosen).astype(int)) for chosen in itertools.combinations(range(8), 4)]
    for beta, expected in ((0.0, min(every)), (1.0, max(every)), (0.5, (min(every) + max(every)) / 2)):
        dealt = Correlation(beta, 2).deal(columns, read, Seeds(0))
        assert icor(matrix, owners(dealt, columns)) == pytest.approx(expected, abs=0.01)
        assert [len(names) for names in dealt.values()] == [4, 4]


def test_related_columns_stay_together_at_beta_0_and_part_at_1():
    rng = np.random.default_rng(0)
    base = rng.normal(size=(2, 500))
    table = pd.DataFrame({f"{'ab'[k]}{n}": base[k] + 0.1 * rng.normal(size=500) for k in range(2) for n in range(3)})
    together = Correlation(0.0, 2).deal(list(table), lambda names: table[list(names)], Seeds(1))
    assert {frozenset(name[0] for name in names) for names in together.values()} == {frozenset("a"), frozenset("b")}
    apart = Correlation(1.0, 2).deal(list(table), lambda names: table[list(names)], Seeds(1))
    assert all({name[0] for name in names} == {"a", "b"} for names in apart.values())


def test_pcor_of_a_block_is_the_spread_of_its_singular_values():
    """Two perfectly related columns a side: the block is all ones, singular values 2 and 0."""
    matrix = np.ones((4, 4))
    assert icor(matrix, np.array([0, 0, 1, 1])) == pytest.approx(0.0)
    split = np.kron(np.eye(2), np.ones((2, 2)))
    assert icor(split, np.array([0, 0, 1, 1])) == pytest.approx(-np.std([2, 0], ddof=1) / np.sqrt(2))


def test_a_run_is_cut_by_a_partition():
    asked = config(data="breast_cancer", split={"name": "importance", "alpha": 0.5, "parties": 4})
    columns = open_world(asked).columns
    assert list(columns) == ["publisher_1", "publisher_2", "publisher_3", "advertiser"]
    assert columns == open_world(asked).columns
    assert columns != open_world(config(data="breast_cancer", split=asked.split.member, seed=1)).columns


@pytest.mark.parametrize(
    "split",
    [
        {"name": "importance", "alpha": 0},
        {"name": "importance", "parties": 1},
        {"name": "importance", "parties": 99},
        {"name": "correlation", "beta": 1.5},
        {"name": "correlation", "gamma": 1},
    ],
)
def test_options_of_a_partition_are_checked(split):
    with pytest.raises(ConfigError):
        open_world(config(data="breast_cancer", split=split))


def test_the_latest_rows_are_tested_and_those_before_them_validate():
    times = pd.Series(np.random.default_rng(0).permutation(100))
    test, valid = (np.unpackbits(np.frombuffer(mask, np.uint8), count=100) for mask in by_time(times, "t", 0.2, 0.1))
    assert sorted(times[test == 1]) == list(range(80, 100))
    assert sorted(times[valid == 1]) == list(range(70, 80))


def test_dates_are_times_and_words_are_none():
    dates = pd.Series(["2017-11-07 09:30", "2017-11-06 10:00", "2017-11-08", "2017-11-01"])
    test, _ = by_time(dates, "t", 0.25, 0.0)
    assert np.unpackbits(np.frombuffer(test, np.uint8), count=4).tolist() == [0, 0, 1, 0]
    with pytest.raises(DataError, match="t: got 'soon' in row 2"):
        by_time(pd.Series(["2017-11-07", "soon", "2017-11-08", "2017-11-09"]), "t", 0.25, 0.0)


def test_a_column_that_is_no_time_of_the_set_is_refused():
    with pytest.raises(DataError, match=r"holdout\.by\.time: when: no such column"):
        open_world(config(data="breast_cancer", holdout={"by": {"time": "when"}}))


def test_a_run_is_held_out_in_time():
    data = {"name": "synthetic_ads", "rows": 4000}
    world = open_world(config(data=data, holdout={"by": {"time": "click_ts"}, "test": 0.25, "valid": 0.1}))
    pools = world.cut.pools()
    assert (np.diff(np.array([0, 1, 2])[pools]) >= 0).all(), "rows stand in the order of their clicks"
    assert np.bincount(pools).tolist() == [2600, 400, 1000]
