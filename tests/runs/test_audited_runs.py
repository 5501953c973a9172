"""Whole runs are audited: every training label is a canary's fair coin, and what a publisher was sent calls them.

Labels are replaced by coins that no column knows anything of, so that a right guess is due to the run alone. A bound
above the claimed epsilon refutes the claim.
"""

from __future__ import annotations

import numpy as np
import pytest
from harness import config, train

from experiments.account import ledger
from experiments.plan import open_world, party_specs
from parties.judging import open_truth
from vfl.data.breast_cancer import BreastCancer
from vfl.defenses._noise import laplace
from vfl.privacy.audit import one_run
from vfl.store import envelopes
from vfl.types import Kind, Role

EPOCHS, GUESSES = 2, 120


@pytest.fixture
def coins(monkeypatch):
    """Make every label a fair coin."""
    drawn = np.random.default_rng(7).integers(0, 2, 569)
    monkeypatch.setattr(BreastCancer, "labels", lambda self, root: drawn)


def audited(folder, stack) -> tuple[float, float]:
    """Return the claimed epsilon, infinite without one, and the least that a run's gradients leave possible.

    Under a sum for a top a row's gradient is prediction less label: its sum over the run, in its own loss's units,
    calls the coin. As many of the least and of the greatest sums are called as was fixed beforehand, the rest are open.
    """
    asked = config(
        model={"bottom": "linear", "top": "sum", "embedding_dim": 1},
        defense=stack,
        train={"epochs": EPOCHS, "batch_size": 64},
        holdout={"test": 0.1, "valid": 0.0},
    )
    train(asked, folder)
    world = open_world(asked)
    lines = [line for line in ledger(asked, world) if line["party"] == "advertiser"]
    shard = next(spec.shard for spec in party_specs(asked, world, folder) if spec.role == Role.ADVERTISER)
    truth, _ = open_truth(shard, str(folder / "referee"), 2)
    labels, sums = truth.labels.open(), dict[int, float]()
    for way, envelope in envelopes(folder / "parties" / "publisher" / "transcript"):
        if way == "received" and envelope.kind == Kind.GRADIENT:
            for row, value in zip(envelope.rows.tolist(), envelope.body[:, 0].tolist(), strict=True):
                sums[row] = sums.get(row, 0.0) + value * len(envelope.rows)
    assert len(sums) == truth.train
    order = sorted(sums, key=lambda row: sums[row])
    called = dict.fromkeys(order[: GUESSES // 2], 1) | dict.fromkeys(order[-GUESSES // 2 :], 0)
    right = sum(int(labels[row]) == guess for row, guess in called.items())
    delta = max((line["delta"] for line in lines), default=0.0)
    return max((line["epsilon"] for line in lines), default=float("inf")), one_run(right, GUESSES, len(sums), delta)


@pytest.mark.parametrize(
    "defense",
    [
        {"name": "grad_perturb", "epsilon": 1.0},
        {"name": "clipped_laplace", "on": "gradient", "epsilon": 2.0, "clip_l1": 0.5},
        {"name": "clipped_gaussian", "on": "gradient", "noise_multiplier": 2.0, "clip_l2": 0.5},
        {"name": "randomized_response", "epsilon": 2.0},
        {"name": "tpsl", "epsilon": 1.0, "draw": "epoch"},
        {"name": "tpsl", "epsilon": 2.0, "draw": "once"},
        {"name": "rr_with_prior", "epsilon": 2.0},
    ],
    ids=lambda defense: "_".join(str(value) for value in defense.values()),
)
def test_no_run_refutes_the_epsilon_that_it_claims(coins, tmp_path, defense):
    claimed, least = audited(tmp_path, [defense])
    assert 0.0 < least <= claimed


def test_no_run_refutes_the_epsilon_of_a_stack(coins, tmp_path):
    stack = [{"name": "randomized_response", "epsilon": 1.5}, {"name": "grad_clip"}]
    claimed, least = audited(tmp_path, stack)
    assert 0.0 < least <= claimed == pytest.approx(1.5)


def test_the_audit_refutes_a_claim_whose_noise_is_too_small(coins, tmp_path, monkeypatch):
    """A tenth of the noise that epsilon .5 an epoch needs."""
    monkeypatch.setattr("vfl.defenses.grad_perturb.laplace", lambda shape, draws: 0.1 * laplace(shape, draws))
    claimed, least = audited(tmp_path, [{"name": "grad_perturb", "epsilon": 0.5}])
    assert least > claimed == pytest.approx(1.0)


def test_the_audit_sees_what_no_defense_hides(coins, tmp_path):
    claimed, least = audited(tmp_path, [])
    assert claimed == float("inf")
    assert least > 3.5
