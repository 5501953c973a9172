"""Audits: published closed forms, an exhaustive twin, and that no channel of a known epsilon is refuted."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import optimize, stats

from vfl.privacy.audit import Trials, clopper_pearson, one_run
from vfl.privacy.label_dp import respond


@pytest.mark.parametrize(
    ("trials", "expected"),
    [(Trials(900, 1000, 100, 1000), 1.9897), (Trials(1000, 1000, 0, 1000), 5.6006), (Trials(500, 1000, 500, 1000), 0)],
)
def test_clopper_pearson_reference_values(trials, expected):
    assert clopper_pearson(trials) == pytest.approx(expected, abs=5e-5)


def test_clopper_pearson_is_the_interval_of_scipy():
    wrong = stats.binomtest(100, 1000).proportion_ci(0.95, method="exact").high
    for delta in (0.0, 0.01):
        expected = math.log((1 - wrong - delta) / wrong)
        assert clopper_pearson(Trials(900, 1000, 100, 1000), delta) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("right", "guessed", "delta", "expected"),
    [(500, 1000, 0.0, 0.0), (750, 1000, 0.0, 0.9767), (750, 1000, 1e-5, 0.9764), (1000, 1000, 0, 5.8091)],
)
def test_one_run_reference_values(right, guessed, delta, expected):
    assert one_run(right, guessed, 1000, delta) == pytest.approx(expected, abs=5e-5)


def test_one_run_is_its_definition_solved_slowly():
    right, guessed, canaries, delta = 33, 40, 60, 1e-3

    def excess(epsilon):
        coin = stats.binom(guessed, 1 / (1 + math.exp(-epsilon)))
        tail = coin.sf(right - 1)
        worst = max((coin.cdf(right - 1) - coin.cdf(right - i - 1)) / i for i in range(1, right + 1))
        return tail + 2 * canaries * delta * worst - 0.05

    assert one_run(right, guessed, canaries, delta) == pytest.approx(optimize.brentq(excess, 0, 5), abs=1e-8)


@pytest.mark.parametrize("epsilon", [0.5, 1.0, 3.0])
def test_randomized_response_is_never_refuted_and_nearly_reached(epsilon):
    """The attacker who believes the noisy label is the best there is: its bound must stay below epsilon, and close."""
    found = []
    for seed in range(40):
        generator = torch.Generator().manual_seed(seed)
        coins = torch.randint(2, (20_000,), generator=generator)
        right = int((respond(coins, 2, epsilon, generator) == coins).sum())
        found.append(one_run(right, 20_000, 20_000))
    assert np.mean(np.array(found) > epsilon) <= 0.125
    assert np.median(found) > 0.9 * epsilon


def test_bare_labels_are_refuted_up_to_the_ceiling():
    assert one_run(1000, 1000, 1000) == pytest.approx(5.8091, abs=5e-5)
    assert one_run(500, 500, 1000) > one_run(100, 100, 1000)


def test_impossible_counts_are_refused():
    with pytest.raises(ValueError, match="rising"):
        one_run(11, 10, 20)
