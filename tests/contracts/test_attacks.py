"""What every registered attack promises, whatever it does."""

from __future__ import annotations

import dataclasses
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.contracts.members import ATTACKS, cases, label
from vfl.attacks import Attack, Guess
from vfl.registry import build, names
from vfl.transcript import AdversaryView, Hints
from vfl.types import Envelope, Kind

STEPS, BATCH, DIM, POPULATION = 60, 64, 8, 960


def test_every_member_has_a_row():
    assert sorted(ATTACKS) == names("attack")


@pytest.fixture(params=cases(ATTACKS), ids=label)
def attack(request) -> Attack:
    spec: dict[str, Any] = request.param
    return build("attack", spec)


def truth() -> Tensor:
    """Labels by row handle, drawn apart from every envelope."""
    return (torch.rand(POPULATION, generator=torch.Generator().manual_seed(99)) < 0.2).long()


def noise_view(attack: Attack, seed: int = 0) -> AdversaryView:
    """A view of several epochs in which every body is noise, with the hints that the attack asks for."""
    stream = torch.Generator().manual_seed(seed)
    per_epoch = POPULATION // BATCH
    orders = [torch.randperm(POPULATION, generator=stream) for _ in range(STEPS // per_epoch)]
    batches = torch.cat(orders).split(BATCH)

    def envelopes(kinds: frozenset[Kind], src: str, dst: str) -> tuple[Envelope, ...]:
        return tuple(
            Envelope(3 * step, kind, src, dst, rows, torch.randn(BATCH, DIM, generator=stream))
            for step, rows in enumerate(batches)
            for kind in sorted(kinds)
        )

    needs = attack.needs
    hinted = torch.randperm(POPULATION, generator=stream)[: needs.labelled_rows]
    return AdversaryView(
        parties=("publisher_1",),
        classes=2,
        sent=envelopes(needs.sent, "publisher_1", "advertiser"),
        received=envelopes(needs.received, "advertiser", "publisher_1"),
        hints=Hints(hinted, truth()[hinted]),
    )


def infer(attack: Attack, view: AdversaryView, seed: int = 3) -> Guess:
    return attack.infer(view, torch.Generator().manual_seed(seed))


def pair_ids(steps: Tensor, rows: Tensor) -> set[tuple[int, int]]:
    return set(zip(steps.tolist(), rows.tolist(), strict=True))


def test_guess_is_well_formed(attack):
    guess = infer(attack, noise_view(attack))
    assert guess.steps.shape == guess.rows.shape == guess.scores.shape[:1]
    assert len(guess.rows) > 0
    assert torch.isfinite(guess.scores).all()
    assert guess.steps.dtype == guess.rows.dtype == torch.int64


def test_scores_only_entries_it_was_given(attack):
    view = noise_view(attack)
    given = set[tuple[int, int]]()
    for envelope in (*view.sent, *view.received):
        given |= {(envelope.step, row) for row in envelope.rows.tolist()}
    guess = infer(attack, view)
    assert pair_ids(guess.steps, guess.rows) <= given


def test_never_scores_a_hinted_row(attack):
    view = noise_view(attack)
    extra = torch.arange(10)
    wider = dataclasses.replace(view, hints=Hints(extra, truth()[extra]))
    for each in (view, wider):
        assert not torch.isin(infer(attack, each).rows, each.hints.rows).any()


def test_same_stream_gives_the_same_guess(attack):
    view = noise_view(attack)
    torch.manual_seed(1)
    first = infer(attack, view)
    torch.manual_seed(2)
    second = infer(pickle.loads(pickle.dumps(attack)), view)
    assert torch.equal(first.scores, second.scores)
    assert torch.equal(first.rows, second.rows)


def test_is_at_chance_on_noise(attack):
    """Over independent views the mean batch AUC is 0.5, within four standard errors of the views' own spread."""
    means = torch.tensor([_mean_batch_auc(infer(attack, noise_view(attack, seed))) for seed in range(12)])
    error = means.std() / len(means) ** 0.5
    assert (means.mean() - 0.5).abs() < 4 * error
    assert (means - 0.5).abs().max() < 0.1


def _mean_batch_auc(guess: Guess) -> float:
    scores = guess.scores if guess.scores.ndim == 1 else guess.scores[:, 1]
    found: list[float] = []
    for step in guess.steps.unique():
        here = guess.steps == step
        positive = truth()[guess.rows[here]] == 1
        ones, zeros = scores[here][positive], scores[here][~positive]
        if len(ones) and len(zeros):
            beaten = ones[:, None] - zeros
            found.append(float(((beaten > 0).float() + (beaten == 0).float() / 2).mean()))
    return sum(found) / len(found)
