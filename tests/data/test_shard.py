import pickle
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vfl.data.adult import Adult
from vfl.data.breast_cancer import BreastCancer
from vfl.data.cut import ALL, TEST, TRAIN, VALID, RowCut, pack
from vfl.data.digits import Digits
from vfl.data.shard import Shard, load_features, load_ids, official_test
from vfl.errors import ConfigError, DataError
from vfl.types import Role

SHARES = st.floats(0, 0.45)


@st.composite
def cuts(draw):
    publishers = tuple(f"publisher_{n}" for n in range(1, draw(st.integers(1, 4)) + 1))
    parties = (*publishers, "advertiser")
    weights = draw(st.lists(st.integers(0, 9), min_size=len(parties), max_size=len(parties)).filter(any))
    shares = {party: weight / sum(weights) for party, weight in zip(parties, weights, strict=True)}
    return RowCut(
        rows=draw(st.integers(20, 400)),
        seed=draw(st.integers(0, 2**40)),
        test=draw(SHARES),
        valid=draw(SHARES),
        overlap=draw(st.floats(0, 1)),
        leftover=draw(st.sampled_from(["even", "publisher", "advertiser", publishers[-1], shares])),
        publishers=publishers,
    )


def expected_shares(cut: RowCut) -> dict[str, float]:
    if isinstance(cut.leftover, dict):
        return cut.leftover
    among = {"even": cut.parties, "publisher": cut.publishers}.get(cut.leftover, (cut.leftover,))
    return {party: 1 / len(among) for party in among}


@settings(max_examples=150, deadline=None)
@given(cuts())
def test_every_row_is_in_one_pool_and_the_shares_hold_within_a_row(cut):
    pools = cut.pools()
    assert pools.dtype == np.int8
    assert pools.shape == (cut.rows,)
    assert abs((pools == TEST).sum() - cut.test * cut.rows) <= 1
    assert abs((pools == VALID).sum() - cut.valid * cut.rows) <= 1
    assert set(np.unique(pools)) <= {TRAIN, VALID, TEST}


@settings(max_examples=150, deadline=None)
@given(cuts())
def test_leftover_rows_have_exactly_one_holder_and_the_shares_hold_within_a_row(cut):
    holders, train = cut.holders(), cut.pools() == TRAIN
    held = {party: cut.held_by(party) for party in cut.parties}
    times = np.zeros(cut.rows, int)
    for rows in held.values():
        assert rows.dtype == np.int64
        assert (np.diff(rows) > 0).all()
        times[rows] += 1
    assert set(times[holders == ALL]) <= {len(cut.parties)}
    assert set(times[holders != ALL]) <= {1}
    assert (holders[~train] == ALL).all()
    loose = int((holders != ALL).sum())
    assert abs((train & (holders == ALL)).sum() - cut.overlap * train.sum()) <= 1
    for place, party in enumerate(cut.parties):
        assert abs((holders == place).sum() - expected_shares(cut).get(party, 0) * loose) <= 1


@settings(max_examples=60, deadline=None)
@given(cuts())
def test_same_seed_same_rows_after_pickling(cut):
    again = pickle.loads(pickle.dumps(cut))
    assert again == cut
    assert np.array_equal(again.pools(), cut.pools())
    assert np.array_equal(again.holders(), cut.holders())


@settings(max_examples=60, deadline=None)
@given(cuts(), st.floats(0, 1))
def test_another_publisher_moves_no_pool_and_no_common_row(cut, overlap):
    plain = replace(cut, leftover="even")
    more = replace(plain, publishers=(*plain.publishers, "another"))
    assert np.array_equal(more.pools(), plain.pools())
    assert np.array_equal(more.holders() == ALL, plain.holders() == ALL)
    low, high = sorted((overlap, plain.overlap))
    common = [replace(plain, overlap=share).holders() == ALL for share in (low, high)]
    assert not (common[0] & ~common[1]).any()


def test_another_seed_gives_other_rows_and_no_pool_follows_the_order_of_the_table():
    cut = RowCut(10_000, seed=1)
    assert (cut.pools() != replace(cut, seed=2).pools()).mean() > 0.2
    position = np.flatnonzero(cut.pools() == TEST).mean() / 10_000
    assert abs(position - 0.5) < 0.03  # 5 standard errors of a uniform draw of 2,500 rows


def test_leftover_goes_where_it_is_sent():
    cut = RowCut(1000, seed=3, overlap=0.2, publishers=("a", "b"))
    dealt = {
        leftover: np.bincount(replace(cut, leftover=leftover).holders() + 1, minlength=4).tolist()
        for leftover in ("even", "publisher", "advertiser", "b")
    }
    assert dealt["even"] == [480, 173, 174, 173]  # 650 training rows, 130 common, 520 loose
    assert dealt["publisher"] == [480, 260, 260, 0]
    assert dealt["advertiser"] == [480, 0, 0, 520]
    assert dealt["b"] == [480, 0, 520, 0]


def test_official_test_rows_are_taken_as_they_are():
    mask = Adult().test_rows(None)
    cut = RowCut(len(mask), seed=0, valid=0.1, test_rows=official_test(Adult(), None))
    assert np.array_equal(cut.pools() == TEST, mask)
    assert (cut.pools() == VALID).sum() == round(0.1 * len(mask))


def test_given_validation_rows_are_taken_as_they_are():
    times = np.random.default_rng(0).permutation(101)
    cut = RowCut(101, seed=0, test_rows=pack(times >= 80), valid_rows=pack((times >= 70) & (times < 80)))
    assert np.array_equal(cut.pools(), np.select([times >= 80, times >= 70], [TEST, VALID], TRAIN))


def test_official_split_is_refused_where_there_is_none():
    with pytest.raises(ConfigError, match=r"holdout\.by: got official.*Digits; use random"):
        official_test(Digits(), None)


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"rows": 0}, "data"),
        ({"test": 1.0}, "holdout.test"),
        ({"valid": -0.1}, "holdout.valid"),
        ({"overlap": 1.5}, "align.overlap"),
        ({"leftover": "nobody"}, "align.leftover"),
        ({"leftover": {"nobody": 1.0}}, "align.leftover"),
        ({"leftover": {"publisher": 0.5}}, "align.leftover"),
        ({"leftover": {"publisher": -1, "advertiser": 2}}, "align.leftover"),
        ({"publishers": ("a", "a")}, "split"),
        ({"publishers": ("advertiser",)}, "split"),
        ({"test_rows": b"\0"}, "holdout.test"),
    ],
)
def test_a_cut_that_cannot_be_is_refused_by_its_key(options, key):
    with pytest.raises(ConfigError, match="allowed") as caught:
        RowCut(**{"rows": 100, "seed": 0, **options})
    assert caught.value.key == key


def test_nothing_left_for_training_and_an_unknown_party_are_refused():
    with pytest.raises(ConfigError, match="got no row left for training"):
        RowCut(10, seed=0, test=0.5, valid=0.5).pools()
    with pytest.raises(ConfigError, match="got 'other', allowed publisher, advertiser"):
        RowCut(10, seed=0).held_by("other")


def shard(party: str, **changes) -> Shard:
    columns = BreastCancer().describe(None).split[party]
    cut = RowCut(569, seed=7, overlap=0.5)
    plain = Shard({"name": "breast_cancer"}, None, party, Role(party), columns, party == "advertiser", cut)
    return replace(plain, **changes)


def test_a_party_loads_its_own_rows_and_columns():
    whole = BreastCancer().read(shard("publisher").columns, None)
    reference = pickle.loads(pickle.dumps(shard("publisher")))
    local = load_features(reference)
    assert np.array_equal(local.ids, load_ids(reference))
    assert np.array_equal(local.frame.to_numpy(), whole.iloc[local.ids].to_numpy())
    assert list(local.frame.columns) == [*local.numeric, *local.categorical]
    assert local.labels is None
    assert np.array_equal(local.ids[local.train_rows], local.ids[local.pools == TRAIN])


def test_only_the_owner_gets_labels_and_its_table_stays_where_it_is():
    local = load_features(shard("advertiser"))
    assert local.labels is not None
    assert np.array_equal(local.labels.open(), BreastCancer().labels(None)[local.ids])
    with pytest.raises(TypeError, match="Sealed"):
        pickle.dumps(local)


def test_a_party_reads_no_column_that_is_not_its_own(monkeypatch):
    asked = []
    read = BreastCancer.read
    monkeypatch.setattr(
        BreastCancer, "read", lambda self, columns, root: asked.extend(columns) or read(self, columns, root)
    )
    monkeypatch.setattr(BreastCancer, "labels", lambda self, root: pytest.fail("a publisher read the labels"))
    assert len(load_features(shard("publisher")).frame)
    assert sorted(asked) == sorted(shard("publisher").columns)


def test_a_label_owner_without_features_has_rows_and_labels():
    local = load_features(shard("advertiser", columns=()))
    assert local.frame.shape == (len(local.ids), 0)
    assert local.labels is not None


def test_a_shard_that_does_not_fit_its_source_is_refused():
    with pytest.raises(DataError, match="breast_cancer: got 569 rows, allowed the 500"):
        load_features(shard("publisher", cut=RowCut(500, seed=7)))
    with pytest.raises(DataError, match=r"breast_cancer: mean_radios: .*did you mean 'mean_radius'"):
        load_features(shard("publisher", columns=("mean_radios",)))
