"""What answers of sizes alone give away, against a partner that tells nothing else."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from vfl.attacks.psi_size import PsiSize, by_size, noise
from vfl.errors import ThreatError
from vfl.transcript import AdversaryView
from vfl.types import Envelope, Kind

COUNT = 1024
NONE = torch.empty(0, dtype=torch.int64)


def held_by(members, count=COUNT, seed=0):
    held = torch.zeros(count, dtype=torch.bool)
    held[torch.from_numpy(np.random.default_rng(seed).permutation(count)[:members])] = True
    return held


@pytest.mark.parametrize("members", [0, 1, 7, 40, 1024])
def test_every_member_is_found_by_about_k_log_n_over_k_questions(members):
    held = held_by(members)
    chances, asked = by_size(COUNT, lambda part: float(held[part].sum()))
    assert torch.equal(chances, held.double())
    k = max(members, 1)
    assert asked <= 1 + 2 * k * math.log2(COUNT / k) + 2 * k


def test_an_answer_is_counted_and_no_more_are_had_than_allowed():
    held, told = held_by(40), []

    def ask(part):
        told.append(len(part))
        return float(held[part].sum())

    for questions in (0, 1, 2, 17, 50):
        told.clear()
        chances, asked = by_size(COUNT, ask, questions)
        assert asked == len(told) <= questions
        assert float(chances.sum()) == pytest.approx(40 if questions else COUNT / 2)


def test_more_questions_tell_more():
    held = held_by(40)
    found = [by_size(COUNT, lambda part: float(held[part].sum()), questions)[0] for questions in (1, 20, 80, 320)]
    aucs = [roc_auc_score(held, each) for each in found]
    assert aucs[0] == 0.5
    assert aucs == sorted(aucs)
    assert aucs[-1] == 1.0


def test_noise_is_the_geometric_mechanism_s():
    """P(k) = (1 - a) / (1 + a) a^|k| with a = exp(-epsilon)."""
    stream, a = torch.Generator().manual_seed(0), math.exp(-0.7)
    drawn = np.array([noise(0.7, stream) for _ in range(20_000)])
    for k in range(-3, 4):
        share = (1 - a) / (1 + a) * a ** abs(k)
        assert (drawn == k).mean() == pytest.approx(share, abs=4 * math.sqrt(share / 20_000))


def test_a_noised_size_protects_one_answer_and_not_many():
    held, stream = torch.zeros(256, dtype=torch.bool), torch.Generator().manual_seed(0)
    held[100:110] = True

    def noised(part):
        return float(held[part].sum()) + noise(1.0, stream)

    once, _ = by_size(256, noised)
    often, asked = by_size(256, noised, repeats=200)
    assert not torch.equal(once, held.double())
    assert torch.equal(often, held.double())
    assert asked % 200 == 0


def test_halves_share_out_what_the_whole_was_told_to_hold_however_wrong_the_answers():
    held, stream = held_by(10, 64), torch.Generator().manual_seed(3)
    for questions in range(1, 40):
        chances, _ = by_size(64, lambda part: float(held[part].sum()) + noise(0.05, stream), questions)
        assert 0 <= float(chances.min()) <= float(chances.max()) <= 1


def announced(pools):
    body = torch.stack([torch.randperm(len(pools), generator=torch.Generator().manual_seed(1)), pools], dim=1)
    offer = Envelope(0, Kind.PSI, "advertiser", "publisher", NONE, torch.zeros(9, 32, dtype=torch.uint8))
    return AdversaryView(
        ("publisher",), 2, (), (offer, Envelope(1, Kind.CONTROL, "advertiser", "publisher", NONE, body))
    )


def test_pools_of_an_announcement_are_found_by_count_and_not_by_the_order_of_handles():
    """The training rows come first among handles, which one question each way of the border would tell."""
    pools = torch.tensor([0] * 300 + [1] * 50 + [2] * 150)
    view, stream = announced(pools), torch.Generator().manual_seed(0)
    few, all_of_them = (PsiSize(questions=asked).infer(view, stream) for asked in (20, 2000))
    assert roc_auc_score(pools == 0, few.scores) < 0.65
    assert torch.equal(all_of_them.scores, (pools == 0).double())


def test_a_record_without_an_announcement_is_refused():
    with pytest.raises(ThreatError, match="without an announcement"):
        PsiSize().infer(AdversaryView(("publisher",), 2, (), ()), torch.Generator())


def test_nothing_is_asked_about_nobody():
    chances, asked = by_size(0, lambda part: 0.0)
    assert (len(chances), asked) == (0, 0)


@pytest.mark.parametrize(
    "options", [{"questions": 0}, {"repeats": 0}, {"epsilon": 0.0}, {"epsilon": -1.0}, {"epsilon": math.nan}]
)
def test_refuses_options_out_of_range(options):
    with pytest.raises(ValueError, match="got"):
        PsiSize(**options)
