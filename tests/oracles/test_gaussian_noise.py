"""White noise: its std follows from the longest gradient, and it is the same in every direction."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from vfl.defenses import SendContext
from vfl.defenses.gaussian_noise import GaussianNoise

BODY = torch.randn(500, 9, generator=torch.Generator().manual_seed(1)) * torch.rand(500, 1) * 1e-4


def added(ratio, body=BODY, seed=0):
    ctx = SendContext(0, torch.Generator().manual_seed(seed), None, 2)
    return (GaussianNoise(ratio).apply(body, {}, ctx)[0] - body).numpy()


@pytest.mark.parametrize("ratio", [0.5, 1.0, 11.0])
def test_noise_is_normal_with_the_published_std(ratio):
    std = ratio * max(math.sqrt(sum(x * x for x in row)) for row in BODY.tolist()) / math.sqrt(9)
    draws = np.concatenate([added(ratio, seed=seed) for seed in range(20)])
    assert stats.kstest(draws.ravel()[::9] / std, "norm").pvalue > 0.01
    covariance = np.cov(draws.T) / std**2
    assert covariance == pytest.approx(np.eye(9), abs=0.06)
    assert (draws**2).sum(axis=1).mean() == pytest.approx(9 * std**2, rel=0.03)


def test_no_noise_at_ratio_zero():
    assert not added(0.0).any()


def test_is_scale_free():
    assert added(1.0, BODY * 1024) == pytest.approx(added(1.0) * 1024, rel=1e-3, abs=1e-6)


def test_tiny_gradients_are_noised_too():
    assert added(1.0, BODY * 1e-24).any()


@pytest.mark.parametrize("ratio", [-0.1, math.inf, math.nan])
def test_refuses_ratios_out_of_range(ratio):
    with pytest.raises(ValueError, match="got"):
        GaussianNoise(ratio)
