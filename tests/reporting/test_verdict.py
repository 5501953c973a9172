"""Verdicts on sweeps whose truth is known, and how often a verdict that says firm is wrong."""

from __future__ import annotations

import numpy as np
import pytest
from trials import sweep, trial

from experiments.reporting.compared import compare, volumes
from experiments.reporting.points import study
from experiments.reporting.verdict import FIRM, LIKELY, OPEN, Verdict, verdict

TIGHT = [0.0021, 0.0019, 0.002, 0.0022, 0.0018]


def answer(rows: list, tolerance: float = 0.005) -> Verdict:
    asked = study(rows)
    return verdict(asked, compare(asked), tolerance)


def told(found: Verdict) -> str:
    return " ".join([found.headline, *found.why, *(line.text for line in found.leaks), *found.also])


def test_the_least_leak_within_the_tolerance_is_chosen():
    losses = {"max_norm": TIGHT, "marvell": [0.003 + loss for loss in TIGHT], "mixpro": [0.02 + loss for loss in TIGHT]}
    rows = sweep(losses, {"max_norm": 0.7, "marvell": 0.6, "mixpro": 0.51})
    found = answer(rows)
    assert (found.choice.point.label, found.sure) == ("max_norm", FIRM)
    assert answer(rows, 0.01).choice.point.label == "marvell"
    assert answer(rows, 0.05).choice.point.label == "mixpro"
    assert answer(rows, 0.001).choice is None


def test_fewer_than_five_seeds_are_never_firm():
    found = answer(sweep({"max_norm": TIGHT[:4]}, {"max_norm": 0.7}))
    assert found.sure == LIKELY
    assert "with 5 seeds or more this would be called firm" in told(found)


def test_a_mean_within_the_tolerance_is_open_where_its_bound_is_not():
    found = answer(sweep({"max_norm": [0.001, 0.009, 0.002, 0.007, 0.003]}, {"max_norm": 0.7}))
    assert (found.choice.point.label, found.sure) == ("max_norm", OPEN)
    assert "more seeds of this table may never settle it" in told(found)
    fixed = sweep({"max_norm": [0.001, 0.009, 0.002, 0.007, 0.003]}, {"max_norm": 0.7}, holdout={"by": "official"})
    assert "seeds would settle it" in told(answer(fixed))


def test_a_single_seed_settles_nothing():
    found = answer(sweep({"max_norm": [0.001]}, {"max_norm": 0.7}))
    assert found.sure == OPEN
    assert "One seed says nothing about another" in told(found)


def test_a_defense_that_hides_nothing_is_not_recommended():
    found = answer(sweep({"max_norm": TIGHT}, {"max_norm": 0.95}))
    assert "No defense within the tolerance is shown to hide anything" in found.headline
    assert found.sure == OPEN


SCATTERED = [0.0018, 0.0046, 0.003, 0.0024, 0.0027]
"""Surely less than half a point taken alone, not where two or more were looked at."""


def leaking(rows: list, defense: str, leaks: dict[int, float]) -> list:
    """The same rows with a leak AUC by seed for one defense, and no figure that a flipped sign does not deceive."""
    return [
        row | {"leakage.norm.leak_auc": leaks[row["seed"]], "leakage.norm.sign_free": None}
        if defense in row["config.defense"]
        else row
        for row in rows
    ]


def test_a_useless_defense_that_surely_costs_nothing_does_not_hide_a_useful_one():
    found = answer(sweep({"rounding": TIGHT, "marvell": SCATTERED}, {"rounding": 0.95, "marvell": 0.6}))
    assert (found.choice.point.label, found.sure) == ("marvell", LIKELY)


def test_a_choice_that_is_not_firm_names_what_is():
    losses = {"max_norm": TIGHT, "marvell": SCATTERED}
    found = answer(sweep(losses, {"max_norm": 0.8, "marvell": 0.6}))
    assert (found.choice.point.label, found.sure) == ("marvell", LIKELY)
    assert "Where only what is firm will do: max_norm, whose worst leak is 60\u00a0%" in told(found)


def test_few_seeds_do_not_make_the_leakier_defense_as_good():
    """Leaks of .9 and .2 that scatter: seeds do not tell them apart, and the mean still says which to use."""
    losses = {"max_norm": TIGHT[:3], "marvell": [0.001 + loss for loss in TIGHT[:3]]}
    rows = sweep(losses, {"max_norm": 0.75, "marvell": 0.6})
    found = answer(leaking(rows, "marvell", {0: 0.5, 1: 0.76, 2: 0.55}))
    assert found.choice.point.label == "marvell"


def without_norm(spectral: float, losses: dict[str, list[float]]) -> Verdict:
    """Norm learns most without a defense and failed under rounding, where spectral, weak before, learns `spectral`."""
    rows = []
    for row in sweep(losses, {"rounding": 0.9, "marvell": 0.7}):
        norm = {name: value for name, value in row.items() if name.startswith("leakage.norm.")}
        copied = {name.replace(".norm.", ".spectral."): value for name, value in norm.items()}
        row = row | copied | {"leakage.spectral.leak_auc": 0.6, "leakage.spectral.sign_free": None}
        if "rounding" in row["config.defense"]:
            row |= dict.fromkeys(norm) | {"leakage.norm.error": "it failed: out", "leakage.spectral.leak_auc": spectral}
        rows.append(row)
    return answer(rows)


@pytest.mark.parametrize("spectral", [0.6, 0.55])
def test_an_attack_that_failed_under_a_defense_is_not_held_for_harmless(spectral: float):
    found = without_norm(spectral, {"rounding": TIGHT})
    assert "norm has no figure under rounding" in told(found)
    assert (found.choice.point.label, found.sure) == ("rounding", OPEN)
    assert "Use rounding" not in found.headline
    assert found.choice.saved.value == pytest.approx(2 * (0.6 - spectral))


def test_a_defense_that_every_attack_was_tried_on_goes_before_one_that_some_failed_on():
    found = without_norm(0.55, {"rounding": TIGHT, "marvell": TIGHT})
    assert (found.choice.point.label, found.sure) == ("marvell", FIRM)


def test_help_that_is_sure_taken_alone_is_not_firm():
    """Of eight defenses one hides a little: at 95 % it does, counting all eight it may not."""
    names = ["max_norm", "mixpro", "grad_average", "discrete_grad", "grad_compression", "gaussian_noise", "rounding"]
    rows = sweep(dict.fromkeys(["marvell", *names], TIGHT), dict.fromkeys([*names, "marvell"], 0.95))
    fall = (0.01, 0.03, 0.02, 0.035, 0.005)
    found = answer(leaking(rows, "marvell", {seed: 0.95 + 0.001 * seed - fall[seed] for seed in range(5)}))
    assert (found.choice.point.label, found.sure) == ("marvell", LIKELY)
    assert "not counting that it was picked out of 8" in told(found)


def test_of_defenses_that_leak_alike_the_cheaper_is_chosen():
    rows = sweep({"max_norm": TIGHT, "marvell": [0.001 + loss for loss in TIGHT]}, {"max_norm": 0.7005, "marvell": 0.7})
    noisy = [
        row | {"leakage.norm.leak_auc": row["leakage.norm.leak_auc"] + 0.004 * (-1) ** row["seed"]}
        for row in rows
        if "max_norm" in row["config.defense"]
    ]
    found = answer([row for row in rows if "max_norm" not in row["config.defense"]] + noisy)
    assert found.choice.point.label == "max_norm"
    assert "do not tell it apart in its worst leak (norm) from marvell" in told(found)


def test_what_still_leaks_is_named_beside_what_it_was():
    (line,) = answer(sweep({"max_norm": TIGHT}, {"max_norm": 0.7})).leaks
    assert line.text.startswith(
        "norm learns labels: 40\u00a0% of the way from guessing to knowing; 90\u00a0% without a defense"
    )
    assert "guessing 0.500" in line.more
    assert "by its length" in line.more


def test_without_a_trial_of_no_defense_nothing_is_recommended():
    rows = [
        row
        for row in sweep({"max_norm": TIGHT, "marvell": TIGHT}, {"max_norm": 0.7, "marvell": 0.6})
        if row["config.defense"] != "[]"
    ]
    found = answer(rows)
    assert found.choice is None
    assert "No trial without a defense" in found.headline


def test_one_run_is_described_and_not_judged():
    found = answer([trial(0, [], 0.9, {"norm": 0.9})])
    assert found.choice is None
    assert "one configuration" in found.headline
    assert "in this one run" in found.leaks[0].text


def test_methods_are_ranked_by_auc_against_vanilla():
    gains = {"vanilla": [0.0] * 5, "local": [0.01, 0.012, 0.011, 0.009, 0.01]}
    rows = [
        trial(seed, [], 0.8 + 0.02 * seed + gain, {}, method=method)
        for method, found in gains.items()
        for seed, gain in enumerate(found)
    ]
    found = answer(rows)
    assert (found.choice.point.label, found.sure) == ("local", FIRM)
    assert "1.04 points more than vanilla (95\u00a0% interval 0.80 to\u00a01.28)" in told(found)


def methods(gains: dict[str, list[float]]) -> Verdict:
    return answer(
        [
            trial(seed, [], 0.8 + 0.02 * seed + gain, {}, method=method)
            for method, found in gains.items()
            for seed, gain in enumerate(found)
        ]
    )


def test_a_method_is_the_best_only_where_it_is_ahead_of_every_other():
    close = {"local": [0.01, 0.012, 0.011, 0.009, 0.01], "risa": [0.012, 0.011, 0.009, 0.011, 0.01]}
    found = methods({"vanilla": [0.0] * 5, **close})
    assert found.choice.point.label == "risa"
    assert found.sure == OPEN
    assert "do not show it to be ahead of local." in told(found)
    assert "0.02 points more than local" in told(found)


def test_three_seeds_make_no_method_firm():
    assert methods({"vanilla": [0.0] * 3, "local": [0.01, 0.012, 0.011]}).sure == LIKELY
    assert methods({"vanilla": [0.0], "local": [0.01]}).sure == OPEN


@pytest.mark.parametrize("looks", [1, 4])
def test_firm_is_wrong_no_more_often_than_it_says(looks: int):
    """All defenses truly cost more than is tolerated; saying of any that it surely costs less is the mistake.

    5 of 100 may be wrong; the bound is three standard deviations above.
    """
    rng = np.random.default_rng(looks)
    names = ["max_norm", "marvell", "mixpro", "grad_average"][:looks]
    rows = sweep({name: [0.0] * 5 for name in names}, dict.fromkeys(names, 0.7))
    wrong = 0
    for _ in range(100):
        lost = [0.0 if row["config.defense"] == "[]" else 0.0051 + 0.002 * rng.normal() for row in rows]
        moved = [
            row | {"utility.test.auc": row["utility.test.auc"] - loss} for row, loss in zip(rows, lost, strict=True)
        ]
        wrong += answer(moved).sure == FIRM
    assert wrong <= 11


def test_hypervolume_is_one_for_a_free_and_perfect_defense_and_less_for_others():
    perfect = compare(study(sweep({"max_norm": [0.0] * 5}, {"max_norm": 0.5, "": 1.0})))
    assert volumes(perfect)["max_norm"].value == pytest.approx(1.0, abs=0.01)
    half = compare(study(sweep({"max_norm": [0.0] * 5}, {"max_norm": 0.75, "": 1.0})))
    assert volumes(half)["max_norm"].value == pytest.approx(0.5, abs=0.01)


def test_where_the_worst_leak_ties_what_else_a_stronger_defense_holds_down_is_told():
    """No defense of gradients moves what embeddings give away: by the worst leak alone the cheaper is chosen."""
    losses = {"max_norm": TIGHT[:3], "marvell": [0.002 + loss for loss in TIGHT[:3]]}
    direction = {"[]": 0.95, "max_norm": 0.75, "marvell": 0.6}
    rows = sweep(losses, {"": 0.85, "max_norm": 0.8, "marvell": 0.8})
    rows = leaking(rows, "marvell", {0: 0.797, 1: 0.803, 2: 0.797})
    second = []
    for row in rows:
        found = next(value for name, value in direction.items() if name in row["config.defense"])
        copied = {name.replace(".norm.", ".direction."): value for name, value in row.items() if ".norm." in name}
        second.append(row | copied | {"leakage.direction.leak_auc": found, "leakage.direction.sign_free": None})
    answered = answer(second)
    assert answered.choice.point.label == "max_norm"
    assert "Of these marvell holds direction to 20\u00a0%, where it is 50\u00a0% here" in told(answered)


@pytest.mark.parametrize(("by", "redrawn"), [("random", True), ("official", False)])
def test_what_a_seed_redraws_is_told_as_it_is(by: str, redrawn: bool):
    rows = [row | {"config.holdout.by": by} for row in sweep({"max_norm": TIGHT}, {"max_norm": 0.7})]
    words = told(answer(rows))
    assert ("redraws the test rows" in words) is redrawn
    assert ("not the test rows" in words) is not redrawn


def test_the_defense_score_is_of_attacks_that_baseline_and_point_both_have():
    """An attack that failed under a defense is no attack that found nothing: the score does not rise for it."""
    lost = [0.0] * 5
    rows = sweep({"max_norm": lost}, {"max_norm": 0.9})
    extra = [trial(seed, [{"name": "max_norm"}], 0.9 + 0.004 * (-1) ** seed, {"spectral": 0.5}) for seed in range(5)]
    found = {each.point.label: each for each in compare(study([*rows, *extra]))}
    plain = {each.point.label: each for each in compare(study(rows))}
    assert found["max_norm"].score.value == pytest.approx(plain["max_norm"].score.value)


def test_an_attack_that_failed_on_a_seed_leaves_it_out_of_the_score():
    both = {"norm": 0.9, "spectral": 0.5}
    rows = [trial(seed, [], 0.9, both) for seed in range(3)]
    rows += [trial(0, [{"name": "max_norm"}], 0.9, {"spectral": 0.5})]
    rows += [trial(seed, [{"name": "max_norm"}], 0.9, both) for seed in (1, 2)]
    assert compare(study(rows))[1].score.n == 2


def test_a_family_is_measured_on_seeds_that_have_all_its_strengths():
    rows = [trial(seed, [], 0.9, {"norm": 1.0}) for seed in range(3)]
    rows += [
        trial(seed, [{"name": "marvell", "s": s}], 0.9, {"norm": 0.5 + 0.1 / s}) for seed in range(3) for s in (1, 4)
    ]
    whole = volumes(compare(study(rows)))["marvell"]
    short = volumes(compare(study(rows[:-1])))["marvell"]
    assert (whole.n, short.n) == (3, 2)
    assert short.value == pytest.approx(whole.value)


def test_one_run_without_an_interval_is_not_called_harmless():
    row = trial(0, [], 0.9, {"norm": 0.98})
    row["leakage.norm.ci"] = None
    text = " ".join(each.text for each in answer([row]).leaks)
    assert "without an interval" in text
    assert "Not told apart" not in text
