"""What the referee says of a guess: its bound."""

from __future__ import annotations

import pytest
import torch

from parties.judging import figures_of
from vfl.attacks import Guess
from vfl.referee import Truth
from vfl.sealed import Sealed
from vfl.seeds import Seeds

BATCHES, SIZE = 400, 16


def figures(weight: float):
    """Scores that are noise and `weight` times the label, in small batches."""
    generator = torch.Generator().manual_seed(0)
    labels = (torch.rand(BATCHES * SIZE, generator=generator) < 0.3).long()
    scores = torch.randn(len(labels), generator=generator) + weight * labels
    guess = Guess("labels", torch.arange(BATCHES).repeat_interleave(SIZE), torch.arange(len(labels)), scores)
    return figures_of(guess, guess, Truth(Sealed(labels), len(labels), 2), Seeds(0))


def test_the_bound_of_a_score_that_is_noise_is_chance_and_not_the_best_sign_of_each_batch():
    found = figures(0.0)
    assert found["upper"] == pytest.approx(0.5, abs=0.02)
    assert found["sign_free"] > 0.55


def test_the_bound_of_a_score_turned_round_is_that_of_the_score():
    assert figures(-1.0)["upper"] == pytest.approx(1 - figures(-1.0)["leak_auc"])
    assert figures(1.0)["upper"] == figures(1.0)["leak_auc"] > 0.7
