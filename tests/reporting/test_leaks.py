from __future__ import annotations

import pytest
from trials import trial

from experiments.reporting.leaks import HIDDEN, LEAKS, ONE_SEED, PERHAPS, attacks_of, leaks_of, short_names, worst
from experiments.reporting.points import study


def one(values: list[float], attack: str = "norm"):
    (point,) = study([trial(seed, [], 0.9, {attack: value}) for seed, value in enumerate(values)]).points
    return leaks_of(point, short_names([point]))[attack]


def test_advantage_runs_from_guessing_to_knowing():
    assert one([1.0, 1.0, 1.0]).advantage.value == 1.0
    assert one([0.5, 0.5, 0.5]).advantage.value == 0.0
    assert one([0.75, 0.75, 0.75]).advantage.value == pytest.approx(0.5)


def test_an_inverted_score_hides_nothing():
    assert one([0.1, 0.1, 0.1]).advantage.value == pytest.approx(0.8)
    flipping = one([0.1, 0.9, 0.1])
    assert flipping.value.value == pytest.approx(0.367, abs=1e-3)
    assert flipping.advantage.value == pytest.approx(0.8)
    assert flipping.reading == LEAKS


@pytest.mark.parametrize(
    ("values", "reading"),
    [
        ([0.8, 0.81, 0.79], LEAKS),
        ([0.2, 0.21, 0.19], LEAKS),
        ([0.505, 0.5, 0.495], HIDDEN),
        ([0.509, 0.510, 0.505], PERHAPS),
        ([0.8], ONE_SEED),
        ([0.505], HIDDEN),
    ],
)
def test_a_reading_says_how_surely_guessing_is_beaten(values: list[float], reading: str):
    assert one(values).reading == reading


def test_chance_is_rarely_called_a_leak():
    """Seeds of an attack that only guesses, 300 times: 2.5 % may be called a leak and 5 % a probable one or more.

    Bounds are three standard deviations above.
    """
    import numpy as np

    rng = np.random.default_rng(0)
    called = [one(list(0.5 + 0.003 * rng.normal(size=3))).reading for _ in range(300)]
    assert called.count(LEAKS) <= 15
    assert called.count(LEAKS) + called.count(PERHAPS) <= 26


def test_less_error_is_more_leakage_and_the_prior_is_no_leak():
    row = trial(0, [], 0.9, {"norm": 0.9})
    row = {name: value for name, value in row.items() if not name.startswith("leakage.")}
    figures = {
        "target": "features",
        "nmse": 0.25,
        "chance.nmse": 2.0,
        "prior_only": 1.0,
        "ci": "[0.2,0.3]",
        "ci_over": "rows",
    }
    (point,) = study([row | {f"leakage.norm.{name}": value for name, value in figures.items()}]).points
    (leak,) = leaks_of(point).values()
    assert (leak.figure, leak.floor) == ("nmse", 1.0)
    assert leak.advantage.value == pytest.approx(0.75)
    assert leak.reading == ONE_SEED


def test_the_worst_attack_is_taken_seed_by_seed():
    rows = [trial(seed, [], 0.9, {"norm": a, "direction": b}) for seed, (a, b) in enumerate([(0.9, 0.6), (0.6, 0.8)])]
    (point,) = study(rows).points
    estimate, by_seed = worst(leaks_of(point))
    assert by_seed == pytest.approx({0: 0.8, 1: 0.6})
    assert estimate.value == pytest.approx(0.7)
    assert worst({}) is None


def test_a_seed_that_an_attack_failed_on_is_no_seed_without_leakage():
    rows = [trial(seed, [], 0.9, {"norm": 0.6, "direction": 0.9}) for seed in (0, 1)]
    rows[1]["leakage.direction.leak_auc"] = None
    (point,) = study(rows).points
    assert worst(leaks_of(point))[1] == pytest.approx({0: 0.8})


def test_one_attack_under_two_grants_is_two():
    rows = [
        trial(0, [], 0.9, {"norm": 0.7}, attack=[{"name": "norm", "positives": positives}])
        for positives in ("minority", "majority")
    ]
    found = study(rows)
    assert len(found.points) == 1
    assert attacks_of(found.points) == ["norm positives=minority by publisher", "norm positives=majority by publisher"]
    assert len(leaks_of(found.points[0], short_names(found.points))) == 2


def test_what_spoils_answers_is_no_leak():
    row = trial(0, [], 0.9, {"norm": 0.9, "sabotage": 0.9})
    row = {name: value for name, value in row.items() if not name.startswith("leakage.sabotage.")}
    figures = {"target": "outcome", "damage": 0.3, "accuracy": 0.99, "chance.damage": 0.0}
    (point,) = study([row | {f"leakage.sabotage.{name}": value for name, value in figures.items()}]).points
    assert worst(leaks_of(point))[0].value == pytest.approx(0.8)
    assert worst({"sabotage": leaks_of(point)["sabotage"]}) is None
