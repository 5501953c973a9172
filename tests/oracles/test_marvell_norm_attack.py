"""Marvell against the norm attack, end to end on a simulated conversion task: how far each `s` takes the leak down."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vfl.attacks.norm import Norm
from vfl.defenses import SendContext
from vfl.defenses.marvell import Marvell
from vfl.metrics.leak_auc import LeakAuc
from vfl.transcript import AdversaryView
from vfl.types import Envelope, Kind

ROWS, BATCH, EPOCHS, COLUMNS = 24_576, 1024, 6, 20


def conversions(draw):
    """Twenty columns a side and rare positives (3.5 %), whose logit is linear in both sides' columns and a product."""
    left, right = (torch.randn(ROWS, COLUMNS, generator=draw) for _ in range(2))
    weights = torch.randn(2, COLUMNS, generator=draw) / COLUMNS**0.5
    logit = 1.2 * (left @ weights[0] + right @ weights[1]) + 0.5 * left[:, 0] * right[:, 0]
    threshold = torch.quantile(logit + torch.randn(ROWS, generator=draw) * 1.5, 0.965)
    labels = (logit + torch.randn(ROWS, generator=draw) * 1.5 > threshold).long()
    return left, right, labels


def train(defense, seed=0):
    """Return a publisher's view of six epochs of split training, with labels by row."""
    draw = torch.Generator().manual_seed(seed)
    left, right, labels = conversions(draw)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        bottom, own, top = (_net(*widths) for widths in ((20, 32, 16), (20, 32, 32), (48, 24, 1)))
    ours = torch.optim.Adam([*own.parameters(), *top.parameters()], lr=3e-3)
    theirs = torch.optim.Adam(bottom.parameters(), lr=3e-3)
    state = defense.init() if defense else {}
    received = []
    for epoch in range(EPOCHS):
        for place, rows in enumerate(torch.randperm(ROWS, generator=draw).split(BATCH)):
            step = epoch * (ROWS // BATCH) + place
            sent = bottom(left[rows])
            leaf = sent.detach().requires_grad_()
            logit = top(torch.cat([leaf, own(right[rows])], dim=1))[:, 0]
            loss = torch.nn.functional.binary_cross_entropy_with_logits(logit, labels[rows].float())
            ours.zero_grad()
            theirs.zero_grad()
            loss.backward()
            body = leaf.grad
            if defense:
                ctx = SendContext(step, torch.Generator().manual_seed(step), labels[rows], 2)
                body, state = defense.apply(body, state, ctx)
            sent.backward(body)
            ours.step()
            theirs.step()
            received.append(Envelope(step, Kind.GRADIENT, "advertiser", "publisher", rows, body))
    return AdversaryView(("publisher",), 2, (), tuple(received)), labels


def _net(inputs, hidden, outputs):
    return torch.nn.Sequential(torch.nn.Linear(inputs, hidden), torch.nn.ReLU(), torch.nn.Linear(hidden, outputs))


@pytest.mark.parametrize(
    ("s", "expected", "tolerance"), [(None, 1.0, 0.01), (1.0, 0.652, 0.05), (4.0, 0.543, 0.03), (16.0, 0.511, 0.02)]
)
def test_the_norm_attack_falls_to_chance_as_the_noise_grows(s, expected, tolerance):
    """Reference values from a simulation apart from this code, on data of the same shape (two seeds)."""
    view, labels = train(Marvell(s) if s else None)
    guess = Norm().infer(view, torch.Generator())
    figures = LeakAuc(resamples=10).result(guess, labels[guess.rows], np.random.default_rng(0))
    assert figures["leak_auc"] == pytest.approx(expected, abs=tolerance)
