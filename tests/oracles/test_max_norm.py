"""max_norm: on average as long as the longest, unbiased, and never off a gradient's own line."""

from __future__ import annotations

import pytest
import torch
from sklearn.metrics import roc_auc_score

from vfl.defenses import SendContext
from vfl.defenses.max_norm import MaxNorm

STREAM = torch.Generator().manual_seed(5)
BODY = (
    torch.randn(12, 5, generator=STREAM, dtype=torch.float64) * torch.logspace(-3, 0, 12, dtype=torch.float64)[:, None]
)


def sent(body, seed=0):
    return MaxNorm().apply(body, {}, SendContext(0, torch.Generator().manual_seed(seed), None, 2))[0]


def test_expected_squared_length_is_the_greatest_and_the_mean_is_unchanged():
    draws = torch.stack([sent(BODY, seed) for seed in range(20_000)])
    longest = BODY.norm(dim=1).max().square()
    assert (draws.square().sum(dim=2).mean(dim=0) / longest).numpy() == pytest.approx(1.0, abs=0.05)
    assert ((draws.mean(dim=0) - BODY).norm(dim=1) / longest.sqrt()).max() < 4 / 20_000**0.5


def test_stays_on_the_line_of_each_gradient():
    cosines = torch.nn.functional.cosine_similarity(sent(BODY), BODY, dim=1)
    assert cosines.abs().numpy() == pytest.approx(1.0, abs=1e-12)
    assert (cosines < 0).any()


def test_one_draw_a_row_is_the_formula():
    xi = torch.randn((12, 1), generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    squares = (BODY**2).sum(dim=1, keepdim=True)
    expected = BODY * (1 + (squares.max() / squares - 1).clamp(min=0).sqrt() * xi)
    assert torch.allclose(sent(BODY, 3), expected, rtol=1e-12, atol=0)


def test_longest_gradient_is_untouched_and_zero_stays_zero():
    body = torch.cat([BODY, torch.zeros(1, 5, dtype=torch.float64)])
    assert torch.allclose(sent(body)[11], body[11])
    assert not sent(body)[12].any()


def test_lengths_of_two_classes_become_alike():
    labels = torch.arange(4000) < 400
    body = torch.where(labels, -0.9, 0.1)[:, None] * torch.ones(4000, 8) / 8**0.5
    undefended = roc_auc_score(labels.numpy(), body.norm(dim=1).numpy())
    defended = roc_auc_score(labels.numpy(), sent(body).norm(dim=1).numpy())
    assert undefended == 1.0
    assert defended < 0.75
