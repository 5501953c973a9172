"""Defenses of labels and of the loss stand beside methods that obey them, and beside no other."""

from __future__ import annotations

import pytest
import torch
from harness import config, digest, train

from experiments.checks import check_members
from experiments.schema import Config
from vfl.errors import ConfigError
from vfl.losses import classification_loss, row_losses

LABELS, PENALTY = {"name": "tpsl"}, {"name": "pe_loss", "weight": 1.0}


def asked(method: str, *defense: dict) -> Config:
    return config(method=method, defense=list(defense), train={"epochs": 1, "batch_size": 64})


@pytest.mark.parametrize("method", ["fedbcd", "celu"])
def test_made_labels_reach_what_a_method_sends(method):
    assert digest(train(asked(method, LABELS))) != digest(train(asked(method)))


def test_a_penalty_reaches_what_fedbcd_sends():
    assert digest(train(asked("fedbcd", PENALTY))) != digest(train(asked("fedbcd")))


@pytest.mark.parametrize(
    ("method", "defense"), [("celu", PENALTY), ("risa", LABELS), ("risa", PENALTY), ("local", PENALTY)]
)
def test_a_method_that_would_not_heed_a_defense_is_refused_with_it(method, defense):
    with pytest.raises(ConfigError, match=f"a method that heeds it, not '{method}'"):
        check_members(asked(method, defense))


@pytest.mark.parametrize("outputs", [1, 3])
def test_row_losses_of_weights_average_to_the_loss(outputs):
    stream = torch.Generator().manual_seed(outputs)
    logits = torch.randn(50, outputs, generator=stream)
    weights = torch.randn(50, max(outputs, 2), generator=stream)
    weights[:, 0] = 1 - weights[:, 1:].sum(dim=1)
    assert torch.allclose(row_losses(logits, weights).mean(), classification_loss(logits, weights), atol=1e-6)
