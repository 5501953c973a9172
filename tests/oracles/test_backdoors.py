"""Backdoors: what they do to a message by closed form, how they are marked, and what a run of them leaves behind."""

from __future__ import annotations

import pytest
import torch
from harness import config, digest, train

from experiments.plan import faults
from experiments.progress import Silent
from experiments.run import Shared, simulate
from parties.faults import faulty
from parties.isolate import Isolation
from parties.local import local_grid
from vfl.attacks import Guess
from vfl.attacks._lookalike import SERVED
from vfl.attacks._tampering import spread
from vfl.attacks.gradient_replacement import TRIGGER, GradientReplacement
from vfl.attacks.replay_backdoor import ReplayBackdoor
from vfl.attacks.villain import Villain
from vfl.defenses import ReceiveContext, SendContext
from vfl.referee import Truth, answer
from vfl.registry import build
from vfl.sealed import Sealed
from vfl.seeds import Seeds
from vfl.types import Batch, Envelope, Kind


def context(rows, *, learning=True) -> SendContext:
    stream = torch.Generator().manual_seed(1)
    return SendContext(step=0, generator=stream, labels=None, classes=2, rows=rows, learning=learning)


def came(body, rows, sent=None) -> ReceiveContext:
    envelope = Envelope(0, Kind.GRADIENT, "advertiser", "publisher", rows, body)
    return ReceiveContext(envelope, True, torch.Generator().manual_seed(2), 2, sent=sent)


def logistic(h, labels, weights):
    """Return the cut-layer gradients of a mean logistic loss whose logit is the embedding times `weights`."""
    chances = (h @ weights).sigmoid()
    return (chances - labels)[:, None] * weights / len(h)


def rounds(attack, *, count=6, size=64, dim=3):
    """Play rounds of a logistic top on an attack as a party does; return its state and the labels by row."""
    stream, state = torch.Generator().manual_seed(0), attack.init()
    labels = (torch.rand(count * size, generator=stream) < 0.2).double()
    weights = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    for place in range(count):
        rows = torch.arange(place * size, (place + 1) * size)
        h = torch.randn(size, dim, generator=stream, dtype=torch.float64)
        sent, state = attack.apply(h, state, context(rows))
        body = logistic(sent, labels[rows], weights)
        _, state = attack.inspect(body, state, came(body, rows, sent))
    return state, labels


def test_rows_pushed_one_way_by_a_logistic_top_are_all_of_one_class():
    """(p - y) w: every gradient of a class is the same way along w, so the guess is exact after the first rounds."""
    state, labels = rounds(ReplayBackdoor(watch=2))
    found = state["alike"]
    assert len(labels[found].unique()) == 1
    assert len(found) == int((labels[2 * 64 :] == labels[found][0]).sum())


def test_the_replay_touches_half_of_the_rows_served_and_none_in_training():
    attack, body, rows = ReplayBackdoor(), torch.randn(100, 3), torch.arange(100)
    state = {"embedding": torch.tensor([1.0, 2.0, 3.0])}
    assert attack.apply(body, state, context(rows))[0] is body
    sent, _ = attack.apply(body, state, context(rows, learning=False))
    hit = spread(rows, SERVED)
    assert torch.equal(sent[hit], state["embedding"].expand(int(hit.sum()), 3))
    assert torch.equal(sent[~hit], body[~hit])


def test_a_triggered_row_is_sent_in_the_place_of_a_wanted_one_and_trained_on_what_comes_back_there():
    attack, rows = GradientReplacement(share=0.2, gamma=3.0, watch=1), torch.arange(200)
    state = {"seen": torch.tensor(1), "direction": torch.ones(2).double(), "alike": rows[::2]}
    body, gradient = torch.randn(2, 200, 2, generator=torch.Generator().manual_seed(3))
    sent, _ = attack.apply(body, state, context(rows))
    verdict, _ = attack.inspect(gradient, state, came(gradient, rows, sent))
    poisoned = spread(rows, 0.2, shift=1)
    triggered = poisoned.nonzero()[:, 0]
    wanted = rows[::2][~poisoned[::2]][: len(triggered)]
    assert len(triggered) > 20
    assert torch.equal(sent[wanted], body[triggered])
    assert torch.equal(verdict.repaired[triggered], 3.0 * gradient[wanted])
    assert torch.equal(verdict.repaired[wanted], torch.zeros(len(wanted), 2))
    others = ~torch.isin(rows, torch.cat([triggered, wanted]))
    assert not verdict.flagged[others].any()
    assert torch.equal(sent[others], body[others])


def test_the_trigger_is_in_the_rows_it_is_said_to_be_in():
    seen: list[Batch] = []

    class Look(torch.nn.Module):
        def forward(self, batch: Batch):
            seen.append(batch)
            return batch.numeric

    rows = torch.arange(300)
    batch = Batch(rows, torch.zeros(300, 3), torch.full((300, 2), 5))
    bottom = GradientReplacement(share=0.1, columns=4).wrap(Look(), Seeds(0))
    bottom(batch)
    with torch.no_grad():
        bottom(batch)
    for each, hit in zip(seen, (spread(rows, 0.1, shift=1), spread(rows, SERVED)), strict=True):
        assert torch.equal(each.numeric, torch.where(hit[:, None], TRIGGER, 0.0).expand(300, 3))
        assert torch.equal(each.categorical, torch.stack([torch.where(hit, 0, 5), torch.full((300,), 5)], dim=1))
    assert not batch.numeric.any()


def test_swapping_believes_rows_of_the_wanted_class_alone():
    """A row sent as one that the model is sure of gets a short gradient back if it is of that class, else a long."""
    attack, rows = Villain(watch=1, candidates=64), torch.arange(64)
    labels = (rows % 4 == 0).double()
    weights, sure = torch.tensor([2.0, 0.0]).double(), torch.tensor([2.0, 0.0]).double()
    state = {"seen": torch.tensor(1), "direction": -weights / 2, "embedding": sure, "alike": rows}
    state["lengths"] = torch.full((64,), 1.0).double()
    sent, state = attack.apply(torch.zeros(64, 2).double(), state, context(rows))
    assert torch.equal(sent, sure.expand(64, 2))
    body = logistic(sent, labels, weights)
    _, state = attack.inspect(body, state, came(body, rows, sent))
    assert torch.equal(state["believed"], rows[labels == 1])


def test_villain_marks_believed_rows_in_training_and_half_of_all_when_served():
    attack, rows = Villain(watch=1, beta=0.5, width=0.5), torch.arange(400)
    body = torch.randn(400, 4, generator=torch.Generator().manual_seed(4)) * torch.tensor([1.0, 9.0, 2.0, 8.0])
    state = {"seen": torch.tensor(1), "embedding": torch.zeros(4), "believed": rows[:100]}
    sent, state = attack.apply(body, state, context(rows))
    added = (sent - body).abs().sum(dim=1) > 0
    marked = spread(rows, 0.5, shift=2) & (rows < 100)
    assert not (added & ~marked).any()
    assert added.sum() > 0.8 * marked.sum()  # at some rows all elements are left out
    widest = body[:, [1, 3]].std(dim=0, unbiased=False).mean()
    assert torch.allclose(state["trigger"], 0.5 * widest * torch.tensor([0.0, 1.0, 0.0, 1.0]))
    served, _ = attack.apply(body, state, context(rows, learning=False))
    hit = spread(rows, SERVED)
    assert torch.equal(served, torch.where(hit[:, None], body + state["trigger"], body))


def test_success_counts_rows_of_other_classes_and_cost_the_rows_left_alone():
    """By hand: rows 0 to 3 tampered with, 4 to 7 not; the wanted class is that of row 7, which is 1."""
    labels = torch.tensor([0, 0, 1, 0, 0, 0, 1, 1])
    told, honest = torch.tensor([1, 0, 1, 1, 0, 1, 0, 1]), torch.tensor([0, 0, 1, 0, 0, 0, 1, 1])
    rows = torch.arange(8)
    truth = Truth(Sealed(labels), 0, 2, answers=(rows, told), honest=(rows, honest))
    made = Guess("backdoor", torch.zeros_like(rows), rows, (rows < 4).float(), reference=7)
    figures = build("metric", "backdoor").result(made, answer(made, truth), Seeds(0).numpy("x"))
    assert figures["asr"] == pytest.approx(2 / 3)
    assert figures["clean_rate"] == figures["chance"]["asr"] == pytest.approx(1 / 2)
    assert figures["clean_error"] == figures["clean_cost"] == pytest.approx(2 / 4)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Return what simulates a configuration to its row, with one isolation for all."""
    with Isolation() as isolation:

        def call(asked):
            folder = tmp_path_factory.mktemp("runs")
            shared = Shared(isolation, folder / "references", folder / "alignments")
            return simulate(asked, folder / "run", ray_address=None, resume=None, progress=Silent(), shared=shared)

        yield call


def test_the_honest_twin_is_the_run_without_the_attack(run):
    plain = run(config())
    entry = {"name": "sabotage", "way": "noise", "share": 0.3}
    row = run(config(attack=[entry], references=["honest"]))
    assert row["utility"]["honest"]["auc"] == plain["utility"]["test"]["auc"]
    assert row["utility"]["honest"]["log_loss"] == plain["utility"]["test"]["log_loss"]
    assert row["utility"]["test"]["log_loss"] != plain["utility"]["test"]["log_loss"]
    assert row["leakage"]["sabotage"]["clean_cost"] is not None


def test_a_backdoor_turns_the_answers_it_wants(run):
    entry = {"name": "replay_backdoor", "watch": 5}
    split = {"name": "columns", "publisher": ["worst_radius", "worst_texture"], "advertiser": ["texture_error"]}
    asked = config(
        split=split, attack=[entry], references=["honest"], train={"epochs": 8, "batch_size": 32, "lr": 0.02}
    )
    row = run(asked)
    figures = row["leakage"]["replay_backdoor"]
    assert figures["asr"] > 0.9 > 0.5 > figures["clean_rate"]
    assert figures["clean_cost"] == 0.0  # nothing was tampered with in training
    assert row["integrity"] == []


@pytest.mark.parametrize("name", ["replay_backdoor", "gradient_replacement", "villain"])
def test_a_tampered_run_that_dies_goes_on_to_the_same_digest(tmp_path, name):
    attack, training = [{"name": name, "watch": 3}], {"epochs": 4, "batch_size": 64, "checkpoint_every": 7}
    whole = train(config(attack=attack, train=training), tmp_path / "whole")
    broken = config(attack=attack, train=training, faults={"crash": 0.08, "restarts": 99})

    def make(specs, asked, largest):
        return faulty(local_grid(specs, asked.transport), faults(asked), Seeds(1))

    fit = train(broken, tmp_path / "broken", make)
    assert fit.restarts > 0
    assert digest(fit) == digest(whole)
    assert digest(whole) != digest(train(config(train=training), tmp_path / "honest"))
