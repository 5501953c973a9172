"""Draws by class: counted class by class, and by hand where a class is rare."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from harness import config

from experiments.config import resolved
from experiments.plan import open_world
from vfl.data.cut import ALL, TEST, TRAIN, VALID, RowCut, pack
from vfl.data.stratified import common_by_class, held_out_by_class, spread
from vfl.errors import ConfigError

RARE = (np.arange(2000) % 200 == 7).astype(np.int64)
"""Ten positives among 2,000 rows."""


def drawn(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("labels", [RARE, np.repeat([3, 1, 2], [5, 50, 500]), np.arange(30) % 3])
def test_the_first_rows_hold_each_class_by_its_share(labels, seed):
    order = spread(labels, drawn(seed))
    assert sorted(order) == list(range(len(labels)))
    shares = {each: (labels == each).mean() for each in np.unique(labels)}
    for count in range(1, len(labels) + 1):
        for each, share in shares.items():
            assert abs((labels[order[:count]] == each).sum() - share * count) < 2


def test_rows_of_a_class_are_drawn_at_random():
    """Each positive is as often among the first fifth as any other: 2 of 10, within four standard errors."""
    draws = 400
    often = np.zeros(len(RARE))
    for seed in range(draws):
        often[spread(RARE, drawn(seed))[:400]] += 1
    error = 4 * np.sqrt(0.2 * 0.8 / draws)
    assert np.abs(often[RARE == 1] / draws - 0.2).max() < error
    assert np.abs(often[RARE == 0] / draws - 0.2).mean() < error / 2


def test_pools_and_common_rows_hold_each_class_by_its_share():
    tested, validated = held_out_by_class(RARE, test=0.2, valid=0.1, draws=drawn(0))
    cut = RowCut(len(RARE), 0, overlap=0.3, test_rows=tested, valid_rows=validated, drawn=True)
    pools = cut.pools()
    assert [(RARE[pools == code]).sum() for code in (TRAIN, VALID, TEST)] == pytest.approx([7, 1, 2], abs=1)
    common = common_by_class(RARE, pools == TRAIN, 0.3, drawn(1))
    holders = replace(cut, common_rows=common).holders()
    kept = (holders == ALL) & (pools == TRAIN)
    assert kept.sum() == round(0.3 * (pools == TRAIN).sum())
    assert RARE[kept].sum() == pytest.approx(2, abs=1)
    assert sorted(np.bincount(holders[holders != ALL])) == [490, 490]


def test_a_larger_overlap_keeps_the_common_rows_of_a_smaller_one():
    train = drawn(3).random(len(RARE)) < 0.7
    small, large = (
        np.unpackbits(np.frombuffer(common_by_class(RARE, train, overlap, drawn(0)), np.uint8))[: len(RARE)]
        for overlap in (0.1, 0.4)
    )
    assert small.sum() == round(0.1 * train.sum())
    assert (small <= large).all()
    assert not large[~train].any()


def test_rows_drawn_for_a_mask_may_train_where_not_all_hold_them_and_named_ones_may_not():
    mask = pack(np.arange(100) < 20)
    named = RowCut(100, 0, valid=0.0, test_rows=mask)
    assert named.fixed().sum() == 20
    assert not replace(named, drawn=True).fixed().any()


def test_a_run_asks_for_it():
    world = open_world(config(data="breast_cancer", holdout={"by": "stratified", "test": 0.2, "valid": 0.1}))
    from vfl.data.breast_cancer import BreastCancer

    labels, pools = BreastCancer().labels(None), world.cut.pools()
    for code, share in ((TEST, 0.2), (VALID, 0.1)):
        assert (pools == code).sum() == round(share * len(labels))
        assert labels[pools == code].sum() == pytest.approx(share * labels.sum(), abs=2)
    other = open_world(config(data="breast_cancer", align={"overlap": 0.1, "stratified": True}))
    common = (other.cut.holders() == ALL) & (other.cut.pools() == TRAIN)
    train = labels[other.cut.pools() == TRAIN]
    assert labels[common].sum() == pytest.approx(0.1 * train.sum(), abs=2)


def test_runs_that_do_not_ask_keep_their_configuration():
    assert "stratified" not in resolved(config())["align"]
    assert resolved(config(align={"stratified": True}))["align"]["stratified"] is True


def test_no_row_left_is_refused():
    with pytest.raises(ConfigError, match=r"holdout: got 0 rows to test and 1 to validate of 4, allowed one or more"):
        held_out_by_class(np.array([0, 1, 0, 1]), test=0.1, valid=0.2, draws=drawn(0))
