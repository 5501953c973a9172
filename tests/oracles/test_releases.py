"""Clipped and noised releases: their noise is what their epsilon was computed from."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from vfl.defenses import SendContext
from vfl.defenses.clipped_gaussian import ClippedGaussian
from vfl.defenses.clipped_laplace import ClippedLaplace
from vfl.defenses.dp_sgd import DpSgd
from vfl.privacy.audit import Trials, clopper_pearson
from vfl.privacy.ledger import Plan, compose
from vfl.types import Kind, Role

ROWS = 20_000


def release(defense, body, seed=0):
    return defense.apply(body, {}, SendContext(0, torch.Generator().manual_seed(seed), None, 2))[0]


@pytest.mark.parametrize(("on", "unit"), [("embedding", 1), ("gradient", ROWS)])
def test_noise_is_in_proportion_to_the_clip(on, unit):
    long = torch.full((ROWS, 4), 9.0)
    gaussian = (release(ClippedGaussian(3.0, 0.5, on), long) * unit - 0.25).numpy()
    assert stats.kstest(gaussian.ravel() / 1.5, "norm").pvalue > 1e-3
    laplace = (release(ClippedLaplace(0.5, 2.0, on), long) * unit - 0.5).numpy()
    assert stats.kstest(laplace.ravel() / (2 * 2.0 / 0.5), "laplace").pvalue > 1e-3


def test_short_rows_are_not_lengthened():
    body = torch.full((ROWS, 4), 1e-3, dtype=torch.float64)
    for defense in (ClippedGaussian(1e-6), ClippedLaplace(1e9)):
        assert release(defense, body).numpy() == pytest.approx(1e-3, abs=1e-5)


SENDERS = [("embedding", Kind.EMBEDDING, Role.PUBLISHER), ("gradient", Kind.GRADIENT, Role.ADVERTISER)]


@pytest.mark.parametrize(("on", "kind", "side"), SENDERS)
def test_stands_at_the_sender_of_its_messages(on, kind, side):
    for defense in (ClippedGaussian(on=on), ClippedLaplace(on=on)):
        assert (defense.kinds, defense.side) == (frozenset({kind}), side)


def test_spends_grow_with_epochs_and_with_receivers_of_gradients():
    (entry,) = compose("p", ClippedGaussian(20.0).ledger(Plan(100, 5)))
    assert entry.epsilon == pytest.approx(4.3772, abs=5e-5)
    weights = compose("p", DpSgd(20.0).ledger(Plan(100, 5)))
    assert weights[0].epsilon == pytest.approx(4.3772, abs=5e-5)
    gradient = compose("p", ClippedGaussian(20.0, on="gradient").ledger(Plan(20, 5)))
    assert gradient[0].epsilon == pytest.approx(4.3772, abs=5e-5)
    assert ClippedLaplace(0.1, on="gradient").ledger(Plan(20, 5))[0].pure == pytest.approx(10.0)


@pytest.mark.parametrize(
    "defense", [ClippedGaussian(4.0), ClippedGaussian(1.0), ClippedLaplace(1.0), ClippedLaplace(4.0)]
)
def test_no_audit_refutes_the_epsilon_of_a_release(defense):
    """The two worst rows, at either end of the clip, told apart by the best test there is."""
    (entry,) = compose("p", defense.ledger(Plan(1, 1)))
    ends = torch.zeros(ROWS, 1, dtype=torch.float64) + 10.0
    inside, outside = release(defense, ends, 1), release(defense, -ends, 2)
    found = []
    for threshold in (0.0, 1.0, 2.0):
        counts = [int((side > threshold).sum()) for side in (inside, outside)]
        found.append(clopper_pearson(Trials(counts[0], ROWS, counts[1], ROWS), entry.delta, 1 - 0.05 / 3))
    assert max(found) <= entry.epsilon
    assert max(found) > 0.25 * entry.epsilon


def test_half_the_noise_would_be_refuted():
    (entry,) = compose("p", ClippedLaplace(1.0).ledger(Plan(1, 1)))
    ends = torch.zeros(ROWS, 1, dtype=torch.float64) + 10.0
    sides = [release(ClippedLaplace(2.0), ends * sign, seed) for seed, sign in ((1, 1), (2, -1))]
    counts = [int((side > 0).sum()) for side in sides]
    assert clopper_pearson(Trials(counts[0], ROWS, counts[1], ROWS)) > entry.epsilon
    assert np.isfinite(entry.epsilon)
