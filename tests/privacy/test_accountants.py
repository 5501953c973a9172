"""Accountants against dp-accounting, closed forms and direct integration; the ledger's arithmetic and its refusals."""

from __future__ import annotations

import math

import numpy as np
import pytest
from dp_accounting import dp_event
from dp_accounting.pld import PLDAccountant
from dp_accounting.rdp import RdpAccountant
from scipy import stats

from vfl.errors import ConfigError
from vfl.privacy import gaussian, subsampled
from vfl.privacy.ledger import Spend, compose, void
from vfl.registry import build


@pytest.mark.parametrize(("mu", "expected"), [(0.5, 1.9931), (1.0, 4.3772), (2.0, 9.9973)])
def test_epsilon_of_one_release_at_1e_5(mu, expected):
    assert gaussian.epsilon(mu, 1e-5) == pytest.approx(expected, abs=5e-5)


def test_delta_of_one_release_at_epsilon_1():
    assert gaussian.delta(1.0, 1.0) == pytest.approx(0.126937, abs=5e-7)


@pytest.mark.parametrize("mu", [0.01, 0.3, 1.0, 5.0, 40.0])
@pytest.mark.parametrize("epsilon", [0.0, 0.5, 3.0])
def test_delta_is_the_area_between_the_densities(mu, epsilon):
    grid = np.linspace(-12, mu + 12, 400_001)
    above = np.maximum(stats.norm.pdf(grid, mu) - math.exp(epsilon) * stats.norm.pdf(grid), 0)
    assert gaussian.delta(mu, epsilon) == pytest.approx(np.trapezoid(above, grid), abs=1e-8)


@pytest.mark.parametrize("mu", [1e-4, 0.05, 0.7, 3.0, 30.0, 1000.0])
@pytest.mark.parametrize("at_delta", [1e-12, 1e-5, 0.1])
def test_epsilon_is_the_least_that_delta_allows(mu, at_delta):
    found = gaussian.epsilon(mu, at_delta)
    assert gaussian.delta(mu, found) <= at_delta
    assert found == 0 or gaussian.delta(mu, found * (1 - 1e-6)) > at_delta * (1 - 1e-9)


@pytest.mark.parametrize("target", [0.1, 1.0, 8.0])
def test_calibration_meets_its_target_from_below(target):
    mu = gaussian.mu_for(target, 1e-5)
    assert gaussian.epsilon(mu, 1e-5) <= target == pytest.approx(gaussian.epsilon(mu * 1.0001, 1e-5), rel=1e-3)
    std = gaussian.noise_std(3.0, target, 1e-5, releases=4)
    assert gaussian.epsilon(gaussian.composed([3.0 / std] * 4), 1e-5) == pytest.approx(target, rel=1e-6)


@pytest.mark.parametrize(("noise", "steps"), [(4.0, 10), (10.0, 100), (2.0, 1)])
def test_composition_without_sampling_is_dp_accountings(noise, steps):
    theirs = PLDAccountant()
    theirs.compose(dp_event.GaussianDpEvent(noise), steps)
    ours = subsampled.epsilon(noise, 1.0, steps, 1e-5)
    assert ours == pytest.approx(theirs.get_epsilon(1e-5), rel=1e-3)
    assert ours <= theirs.get_epsilon(1e-5) + 1e-9


@pytest.mark.parametrize(("noise", "rate", "steps", "rdp"), [(1.0, 0.01, 1000, 2.1014), (2.0, 0.05, 500, 2.7686)])
def test_sampled_epsilons_are_dp_accountings(noise, rate, steps, rdp):
    event = dp_event.PoissonSampledDpEvent(rate, dp_event.GaussianDpEvent(noise))
    renyi, exact = RdpAccountant(), PLDAccountant()
    renyi.compose(event, steps)
    exact.compose(event, steps)
    ours = subsampled.epsilon(noise, rate, steps, 1e-5, batches_hidden=True)
    tight = subsampled.epsilon(noise, rate, steps, 1e-5, accountant="prv", batches_hidden=True)
    assert ours == pytest.approx(rdp, abs=5e-4)
    assert ours == pytest.approx(renyi.get_epsilon(1e-5), rel=5e-3)
    assert exact.get_epsilon(1e-5) <= tight * 1.001
    assert tight == pytest.approx(exact.get_epsilon(1e-5), rel=0.02)
    assert tight < ours


def test_noise_is_found_for_a_target():
    noise = subsampled.noise_for(3.0, 0.01, 1000, 1e-5, batches_hidden=True)
    assert subsampled.epsilon(noise, 0.01, 1000, 1e-5, batches_hidden=True) <= 3.0
    assert subsampled.epsilon(noise / 1.002, 0.01, 1000, 1e-5, batches_hidden=True) > 3.0


@pytest.mark.parametrize(("target", "steps"), [(0.3, 1), (3.3414, 10), (200.0, 1), (5000.0, 4)])
def test_noise_without_sampling_is_the_least(target, steps):
    """Also far below a tenth of the clipping length, where next to nothing is hidden."""
    noise = subsampled.noise_for(target, 1.0, steps, 1e-5)
    assert subsampled.epsilon(noise, 1.0, steps, 1e-5) <= target
    assert subsampled.epsilon(noise / 1.0001, 1.0, steps, 1e-5) > target


def test_no_amplification_where_batches_are_seen():
    with pytest.raises(ConfigError, match="others see which rows a batch holds"):
        subsampled.epsilon(1.0, 0.01, 1000, 1e-5)


def test_ledger_adds_pure_parts_and_composes_gaussian_ones():
    spends = [Spend("a", "x", pure=0.5), Spend("a", "y", pure=0.25), Spend("b", "x", mu=0.6), Spend("b", "x", mu=0.8)]
    pure, noisy = compose("p", spends)
    assert (pure.epsilon, pure.delta, pure.purpose) == (0.75, 0.0, "x and y")
    assert noisy.epsilon == pytest.approx(4.3772, abs=5e-5)
    (both,) = compose("p", [Spend("a", "x", pure=1.0), Spend("a", "x", mu=1.0)])
    assert both.epsilon == pytest.approx(5.3772, abs=5e-5)
    assert compose("p", []) == []


NOISE = {"name": "clipped_gaussian", "on": "gradient"}


@pytest.mark.parametrize(
    ("stack", "voided"),
    [
        ([NOISE], []),
        ([{"name": "grad_clip"}, NOISE], []),
        ([NOISE, {"name": "max_norm"}], []),
        ([{"name": "max_norm"}, NOISE], [1]),
        ([NOISE, {"name": "marvell"}], [0]),
        ([{"name": "pe_loss"}, NOISE], [1]),
        ([{"name": "randomized_response"}, {"name": "marvell"}], []),
        ([{"name": "randomized_response"}, {"name": "max_norm"}, NOISE], [2]),
        ([{"name": "dp_sgd"}, {"name": "mid"}], [0]),
        ([{"name": "dp_sgd"}, {"name": "clipped_gaussian"}], []),
        ([{"name": "dcor"}, {"name": "dp_sgd"}], [1]),
        ([{"name": "multiplicative_noise"}, {"name": "grad_perturb"}], [1]),
        ([{"name": "grad_clip"}, {"name": "grad_perturb"}], [1]),
        ([{"name": "grad_perturb"}, {"name": "grad_clip"}], []),
        ([{"name": "grad_perturb"}, {"name": "mid", "at": "top"}], [0]),
        ([{"name": "grad_perturb"}, {"name": "mid", "at": "bottom"}], []),
    ],
)
def test_stacks_that_void_a_guarantee_are_found(stack, voided):
    assert [place for place, _ in void([build("defense", spec) for spec in stack])] == voided
