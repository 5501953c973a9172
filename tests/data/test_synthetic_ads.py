"""The generator against the truth it keeps: rates, probabilities, signal, times, and columns made alone."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from vfl.data.synthetic_ads import BLOCK, CATEGORICAL, DAYS, NUMERIC, START_S, TRUTH
from vfl.errors import ConfigError
from vfl.registry import build


def ads(**options):
    return build("data", {"name": "synthetic_ads", "rows": 150_000, **options})


@pytest.mark.parametrize("cvr", [0.005, 0.05, 0.3])
def test_purchases_come_at_the_rate_that_was_asked_for(cvr):
    source = ads(cvr=cvr)
    truth = source.truth(["p_cvr", "converted"])
    assert truth["p_cvr"].mean() == pytest.approx(cvr, rel=0.04)
    spread = np.sqrt((truth["p_cvr"] * (1 - truth["p_cvr"])).mean() / len(truth))
    assert abs(truth["converted"].mean() - truth["p_cvr"].mean()) < 4 * spread
    assert np.array_equal(source.labels(None), truth["converted"])


def test_true_probabilities_are_calibrated_in_every_tenth_of_rows():
    truth = ads(cvr=0.1).truth(["p_cvr", "converted"])
    tenths = truth.groupby(np.argsort(np.argsort(truth["p_cvr"])) // 15_000).mean()
    spread = np.sqrt(tenths["p_cvr"] * (1 - tenths["p_cvr"]) / 15_000)
    assert (abs(tenths["converted"] - tenths["p_cvr"]) < 4 * spread).all()


def test_clicks_come_after_as_many_impressions_as_their_probability_says():
    """Tries up to a success of probability p: their mean is 1 / p, with a variance of (1 - p) / p^2."""
    truth = ads().truth(["p_ctr", "impressions"])
    assert (truth["impressions"] >= 1).all()
    assert (truth["impressions"] % 1 == 0).all()
    scaled = truth["impressions"] * truth["p_ctr"]
    tenths = np.argsort(np.argsort(truth["p_ctr"])) // 15_000
    spread = np.sqrt((1 - truth["p_ctr"]).groupby(tenths).mean() / 15_000)
    assert (abs(scaled.groupby(tenths).mean() - 1) < 4 * spread).all()
    assert truth["p_ctr"].std() > 0.01


def test_a_party_makes_its_columns_without_the_others_and_again_the_same():
    source = ads()
    whole = source.read([*NUMERIC["publisher"], *CATEGORICAL["advertiser"]], None)
    alone = build("data", {"name": "synthetic_ads", "rows": 150_000}).read(["item_id", "pages"], None)
    assert alone["item_id"].tolist() == whole["item_id"].tolist()
    assert alone["pages"].tolist() == whole["pages"].tolist()
    assert ads(seed=1).read(["pages"], None)["pages"].tolist() != whole["pages"].tolist()


def test_blocks_come_one_at_a_time():
    sizes = [len(frame) for frame in ads().stream(["pages"])]
    assert sizes == [BLOCK, BLOCK, 150_000 - 2 * BLOCK]


def strength(source, party: str) -> float:
    frame, labels = source.read(NUMERIC[party], None), source.labels(None)
    values = ((frame - frame.mean()) / frame.std()).to_numpy()
    model = LogisticRegression().fit(values[:100_000], labels[:100_000])
    return roc_auc_score(labels[100_000:], model.predict_proba(values[100_000:])[:, 1])


def test_signal_is_on_the_side_it_was_given_to():
    quiet = {"joint": 0.0}
    lifts = {"cvr": 0.1, "promo_lift": 0.0, "exposure_lift": 0.0}
    loud = ads(**lifts, signal={"publisher": 1.5, "advertiser": 0.0, **quiet})
    assert strength(loud, "publisher") > 0.65
    assert abs(strength(loud, "advertiser") - 0.5) < 0.02
    other = ads(**lifts, signal={"publisher": 0.0, "advertiser": 1.5, **quiet})
    assert abs(strength(other, "publisher") - 0.5) < 0.02
    assert strength(other, "advertiser") > 0.65


def test_times_follow_one_another_and_are_there_only_where_something_came():
    truth = ads(cvr=0.2).truth(TRUTH)
    assert (np.diff(truth["click_ts"]) >= 0).all()
    assert truth["click_ts"].between(START_S, START_S + DAYS * 86_400).all()
    bought, back = truth["converted"] == 1, truth["refunded"] == 1
    assert truth["conv_ts"].notna().equals(bought)
    assert truth["refund_ts"].notna().equals(back)
    assert (back <= bought).all()
    waited = (truth["conv_ts"] - truth["click_ts"])[bought]
    assert waited.between(0, 86_400).all()
    assert (truth["refund_ts"][back] > truth["conv_ts"][back]).all()
    assert truth["refunded"][bought].mean() == pytest.approx(truth["p_refund"][bought].mean(), abs=0.01)


def test_drift_moves_the_rate_from_the_first_to_the_last_day():
    p = ads(cvr=0.05, drift=1.0).truth(["p_cvr"])["p_cvr"].to_numpy()
    odds = [part.mean() / (1 - part.mean()) for part in (p[:15_000], p[-15_000:])]
    assert np.log(odds[1] / odds[0]) == pytest.approx(
        0.9, abs=0.2
    )  # nine tenths of the drift lie between their middles
    still = ads(cvr=0.05).truth(["p_cvr"])["p_cvr"].to_numpy()
    assert still[:15_000].mean() == pytest.approx(still[-15_000:].mean(), rel=0.08)


def test_promotion_and_exposure_lift_the_odds_as_told():
    source = ads(cvr=0.05, promo_lift=1.0, exposure_lift=0.0, signal={"publisher": 0, "advertiser": 0, "joint": 0})
    p, promo = source.truth(["p_cvr"])["p_cvr"], source.read(["promo"], None)["promo"]
    odds = p / (1 - p)
    assert np.log(odds[promo == 1].mean() / odds[promo == 0].mean()) == pytest.approx(1.0, abs=1e-6)


def test_cardinalities_are_bounds_and_few_make_most_rows():
    frame = ads(users=500, items=50).read(["user_id", "item_id"], None)
    assert frame["user_id"].nunique() <= 500
    assert frame["item_id"].nunique() <= 50
    counts = frame["item_id"].value_counts()
    assert counts.iloc[:10].sum() > 0.5 * len(frame)


def test_truth_is_no_feature_and_the_set_says_that_it_is_synthetic():
    described = ads().describe(None)
    assert described.synthetic
    assert not set(described.columns) & set(TRUTH)
    assert described.times == ("click_ts",)


@pytest.mark.parametrize("options", [{"cvr": 0.0}, {"rows": 0}, {"users": 0}, {"signal": {"joint": -1.0}}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ConfigError, match="allowed"):
        ads(**options)
