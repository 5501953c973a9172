"""multiplicative_noise: Laplace factors, one a row, unbiased, and signs turned as often as their closed form says."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats

from vfl.defenses import SendContext
from vfl.defenses.multiplicative_noise import MultiplicativeNoise

RESIDUES = torch.linspace(-1, 1, 20_001, dtype=torch.float64)[:, None]
RESIDUES = RESIDUES[RESIDUES[:, 0] != 0]


def sent(scale, body=RESIDUES, seed=0):
    return MultiplicativeNoise(scale).apply(body, {}, SendContext(0, torch.Generator().manual_seed(seed), None, 2))[0]


@pytest.mark.parametrize("scale", [0.1, 1.0, 100.0])
def test_factors_are_laplace_around_one(scale):
    factors = (sent(scale) / RESIDUES).flatten().numpy()
    assert stats.kstest(factors, "laplace", args=(1, scale)).pvalue > 0.01


@pytest.mark.parametrize("scale", [0.3, 1.0, 10.0])
def test_signs_turn_as_often_as_the_closed_form_says(scale):
    turned = float((sent(scale, seed=1) * RESIDUES < 0).double().mean())
    expected = math.exp(-1 / scale) / 2
    assert turned == pytest.approx(expected, abs=4 * math.sqrt(expected * (1 - expected) / len(RESIDUES)))


def test_a_row_has_one_factor_and_rows_have_different_ones():
    body = torch.randn(50, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    factors = sent(1.0, body) / body
    assert torch.allclose(factors, factors[:, :1].expand_as(factors))
    assert len(factors[:, 0].unique()) == 50


def test_nothing_changes_at_scale_zero():
    assert torch.equal(sent(0.0), RESIDUES)


@pytest.mark.parametrize("scale", [-1.0, math.inf, math.nan])
def test_refuses_scales_out_of_range(scale):
    with pytest.raises(ValueError, match="got"):
        MultiplicativeNoise(scale)
