"""Tables of training methods: intervals and tests against scipy's, and pages that keep their prose."""

from __future__ import annotations

import pytest
from scipy import stats

from experiments.bench.arms import FEDADS, MAIN, STUDIES
from experiments.bench.method_pages import difference, filled, holm, interval, missing, paired_p, spent
from experiments.bench.methods import VALIDATIONS, configured, measured, ordered, passes
from experiments.plan import coordinator_plan
from vfl.types import Phase, Pool

DIGITS = STUDIES["digits"]


def test_the_interval_is_students():
    low, high = stats.t.interval(0.95, 2, loc=0.5, scale=stats.sem([0.4, 0.5, 0.6]))
    assert interval([0.4, 0.5, 0.6]) == f"0.500 ± {(high - low) / 2:.3f} (3)"
    assert interval([]) == "not run"
    assert interval([0.25], sign=True) == "+0.250 (1)"
    assert interval([0.25, 0.35]) == "0.300 (2)", "a t-interval of two seeds is wider than any figure here"


def test_differences_are_paired_by_seed():
    ours, theirs = {0: 0.5, 1: 0.7, 2: 0.6, 7: 0.0}, {2: 0.5, 1: 0.5, 0: 0.4}
    expected = stats.ttest_rel([0.5, 0.7, 0.6], [0.4, 0.5, 0.5]).pvalue
    assert difference(ours, theirs).endswith(f"(3), p {expected:.3f}")
    assert paired_p([0.1]) is None


def test_holm_by_hand():
    assert holm([0.01, None, 0.04, 0.03]) == [pytest.approx(0.03), None, pytest.approx(0.06), pytest.approx(0.06)]


def test_a_page_keeps_its_prose():
    page = "before\n<!-- table a -->\nold\n<!-- end -->\nafter\n"
    once = filled(page, {"a": ["new"]})
    assert once == "before\n<!-- table a -->\n\nnew\n\n<!-- end -->\nafter\n"
    assert filled(once, {"a": ["new"]}) == once
    with pytest.raises(ValueError, match="no marker"):
        filled(page, {"b": []})


def test_what_was_not_run_is_named():
    (told,) = missing("digits", [{"arm": "vanilla", "overlap": 0.01, "seed": 0}])
    assert "1%, 4 of 5 seeds: `vanilla`" in told
    assert "100%, 5 of 5 seeds: `oracle`" in told


def test_time_spent_is_told_beside_the_budget_of_two_cores():
    (told,) = spent([[{"wall_s": 1800.0}, {"wall_s": 900.0}], [{"wall_s": 900.0}]], 3)
    assert "3 runs" in told
    assert "1.0 h of one process" in told
    assert told.endswith("3 h on two cores, 6 h of one.")


SPENDING = {name: arm for name, arm in {**MAIN, **FEDADS}.items() if name != "oracle"}


@pytest.mark.parametrize("name", SPENDING)
def test_every_arm_spends_what_the_study_has(name):
    """To within a tenth: epochs are whole, and a method of local updates exchanges a third as often."""
    phases = coordinator_plan(configured(DIGITS, SPENDING[name], 0.05, 0)).phases
    rows = {Pool.TRAIN: 58, Pool.LABELLED: 636, Pool.UNION: 1213}
    steps = sum(
        max(phase.epochs * -(-rows[phase.pool] // phase.batch_size), phase.min_steps)
        for phase in phases
        if phase.pool in rows
    )
    local = SPENDING[name].options.get("local_steps", 1)
    assert steps * local == pytest.approx(DIGITS.steps, rel=0.1)


def test_passes_count_a_share_of_an_epoch():
    phases = [Phase("a", (), 0, 10, Pool.TRAIN, min_steps=6), Phase("b", (), 2, 10, Pool.UNION)]
    assert passes(phases, {Pool.TRAIN: 35, Pool.UNION: 100}) == 1.5 + 2


def test_tiers_go_round_the_studies():
    cells = list(ordered(["digits", "criteo"], [0]))
    assert cells[0] == ("digits", ("vanilla", 0.01, 0))
    assert {overlap for _, (_, overlap, _) in cells} == {0.01, 0.05, 1.0}
    assert len(set(cells)) == len(cells)


@pytest.mark.parametrize("name", ["vanilla", "local_all", "risa", "fedbcd"])
def test_every_arm_is_validated_about_as_often(name):
    """Whatever an epoch of it is: one of `local_all` has eleven times the rows of one of `vanilla`."""
    row, _ = measured(configured(DIGITS, SPENDING[name], 0.05, 0), None)
    assert VALIDATIONS - 3 <= row["validations"] <= VALIDATIONS + 8
