"""Attacks that tamper: what they do to a step or a message by closed form, and what a run of them shows."""

from __future__ import annotations

import pytest
import torch
from harness import config, train

from experiments.leakage import Target, attack_all, check_took_part, failure
from experiments.plan import open_world
from experiments.progress import Silent
from experiments.schema import AttackSpec
from parties.isolate import Isolation
from vfl.attacks._tampering import spread
from vfl.attacks.active_model_completion import ActiveModelCompletion
from vfl.attacks.sabotage import Sabotage
from vfl.defenses import SendContext
from vfl.errors import ThreatError
from vfl.registry import build

SPLIT = {"name": "columns", "publisher": ["mean_radius", "mean_texture"], "advertiser": ["texture_error"]}


def context(rows) -> SendContext:
    return SendContext(step=0, generator=torch.Generator().manual_seed(1), labels=None, classes=2, rows=rows)


def test_a_coordinate_that_keeps_its_sign_runs_ahead_and_one_that_turns_does_not():
    """Plain SGD at rate 1: steps of 1, then r u with r = 1 + u / v: 2, then 1 + 1 / 2; a turned step stays 1."""
    weights = torch.nn.Parameter(torch.zeros(2))
    optimizer = torch.optim.SGD([weights], lr=1.0)
    ActiveModelCompletion().steer(optimizer)
    seen = [torch.zeros(2)]
    for gradient in ((-1.0, -1.0), (-1.0, 1.0), (-1.0, -1.0)):
        weights.grad = torch.tensor(gradient)
        optimizer.step()
        seen.append(weights.detach().clone())
    moved = torch.stack(seen).diff(dim=0)
    assert torch.allclose(moved, torch.tensor([[1.0, 1.0], [2.0, -1.0], [1.5, 1.0]]))
    assert "moved" in optimizer.state[weights]


def test_no_boost_without_gamma():
    weights = torch.nn.Parameter(torch.ones(3))
    plain = torch.nn.Parameter(torch.ones(3))
    optimizers = [torch.optim.Adam([each], lr=0.1) for each in (weights, plain)]
    ActiveModelCompletion(gamma=0.0).steer(optimizers[0])
    for _ in range(5):
        for each, optimizer in zip((weights, plain), optimizers, strict=True):
            each.grad = each.detach().clone()
            optimizer.step()
    assert torch.allclose(weights, plain)


def test_sabotage_touches_its_share_of_rows_and_always_the_same():
    rows = torch.randperm(20_000)[:8_000]
    body = torch.randn(8_000, 4)
    for way in ("noise", "missing", "misaligned", "free_riding"):
        sent, _ = Sabotage(way=way, share=0.3).apply(body, {}, context(rows))
        changed = (sent != body).any(dim=1)
        assert torch.equal(changed, spread(rows, 0.3))
        assert changed.float().mean() == pytest.approx(0.3, abs=0.02)
    assert torch.equal(spread(rows, 1.0), torch.ones(8_000, dtype=torch.bool))
    shifted, _ = Sabotage(way="misaligned", share=0.3).apply(body, {}, context(rows))
    assert torch.equal(shifted.sort(dim=0).values, body.sort(dim=0).values)


def test_a_run_is_tampered_with_where_it_says_so_and_only_there(tmp_path):
    entry = {"name": "sabotage", "way": "missing", "share": 0.5}
    asked = config(split=SPLIT, train={"epochs": 8, "batch_size": 32, "lr": 0.02}, attack=[entry])
    train(asked, tmp_path)
    with Isolation() as isolation:
        figures = attack_all(Target(asked, open_world(asked), tmp_path), asked.attack, isolation, Silent())["sabotage"]
    assert figures["damage"] > 0.1
    assert figures["damage"] == pytest.approx(figures["error"] - figures["clean_error"])
    assert figures["adversaries"] == ["publisher"]  # an error that it caused is a figure, and no failure of its own
    assert failure(figures) is None
    assert failure({"target": None, "error": "it failed: why"}) == "it failed: why"
    with pytest.raises(ThreatError, match="tampers with the run"):
        check_took_part(config(split=SPLIT), [AttackSpec.model_validate(entry)])


def test_the_rigged_optimizer_of_a_publisher_changes_what_it_sends(tmp_path):
    entry = {"name": "active_model_completion", "labelled_rows": 10, "steps": 30}
    hints = {"hints": {"labelled_rows": 10}}
    honest = train(config(split=SPLIT), tmp_path / "honest")
    rigged = train(config(split=SPLIT, attack=[entry], threat=hints), tmp_path / "rigged")
    unsteered = train(config(split=SPLIT, attack=[{**entry, "gamma": 0.0}], threat=hints), tmp_path / "zero")
    assert rigged.progress.losses != honest.progress.losses
    assert unsteered.progress.losses == pytest.approx(honest.progress.losses, rel=1e-5)
    assert build("attack", entry).needs.active
