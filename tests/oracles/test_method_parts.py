"""Pieces of training methods, by hand or against a slow twin."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from vfl.methods._views import masked, siamese
from vfl.methods.celu import Cache, staleness
from vfl.methods.fedhssl import cross_loss
from vfl.methods.heuristic import means_by_key
from vfl.methods.jpl import rank_loss
from vfl.methods.vfl_mpd import derangement, matching_loss
from vfl.types import Batch


def stream(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_users_mean_is_that_of_its_rows_and_a_new_user_gets_the_mean_over_users():
    keys, values = torch.tensor([7, 3, 7, 7]), torch.tensor([[1.0], [10.0], [2.0], [6.0]])
    found = means_by_key(keys, values, torch.tensor([3, 7, 5, 99]))
    assert found[:, 0].tolist() == pytest.approx([10.0, 3.0, 6.5, 6.5])


@pytest.mark.parametrize("rows", [2, 3, 50])
def test_a_derangement_moves_every_row_and_uses_each_once(rows):
    found = derangement(rows, stream(rows))
    assert sorted(found.tolist()) == list(range(rows))
    assert (found != torch.arange(rows)).all()


class Dot(nn.Module):
    """A judge that multiplies two one-column embeddings."""

    def forward(self, joined: torch.Tensor) -> torch.Tensor:
        return joined[:, :1] * joined[:, 1:]


def test_matching_loss_by_hand():
    theirs, own = torch.tensor([[1.0], [-2.0]]), torch.tensor([[0.5], [3.0]])
    sigmoid = torch.sigmoid
    pairs = [(0.5, 3.0), (-6.0, -1.0)]
    expected = sum(
        -sigmoid(torch.tensor(right)).log() - (1 - sigmoid(torch.tensor(wrong))).log() for right, wrong in pairs
    )
    found = matching_loss(Dot(), theirs, own, torch.tensor([1, 0]))
    torch.testing.assert_close(found, expected / 2)


def test_siamese_loss_is_the_mean_negative_cosine_and_its_targets_are_fixed():
    one = torch.tensor([[1.0, 0.0]], requires_grad=True)
    two = torch.tensor([[1.0, 1.0]], requires_grad=True)
    loss = siamese(nn.Identity(), one, two)
    assert loss.item() == pytest.approx(-(0.5**0.5))
    loss.backward()
    expected = torch.autograd.grad(-nn.functional.cosine_similarity(one, torch.tensor([[1.0, 1.0]])).sum() / 2, one)[0]
    torch.testing.assert_close(one.grad, expected)
    assert siamese(nn.Identity(), one, 3 * one).item() == pytest.approx(-1.0)


def test_views_hide_the_share_asked_for_and_leave_the_rest():
    batch = Batch(torch.arange(4000), torch.full((4000, 3), 5.0), torch.full((4000, 2), 9))
    view = masked(batch, 0.3, stream())
    assert set(view.numeric.unique().tolist()) == {0.0, 5.0}
    assert set(view.categorical.unique().tolist()) == {1, 9}
    assert (view.numeric == 0).float().mean().item() == pytest.approx(0.3, abs=0.02)
    assert (view.categorical == 1).float().mean().item() == pytest.approx(0.3, abs=0.02)
    assert (batch.numeric == 5.0).all()


def test_rank_loss_against_a_loop_over_pairs():
    ours, theirs = torch.tensor([[0.2], [1.0], [-0.5]]), torch.tensor([[2.0], [0.1], [0.0]])
    total, sigmoid = 0.0, torch.sigmoid
    for i in range(3):
        for j in range(3):
            if i != j:
                wanted, found = sigmoid(theirs[i] - theirs[j]), sigmoid(ours[i] - ours[j])
                total += -(wanted * found.log() + (1 - wanted) * (1 - found).log()).item() / 6
    assert rank_loss(ours, theirs).item() == pytest.approx(total, rel=1e-5)
    assert rank_loss(theirs, theirs) < rank_loss(-theirs, theirs)


def test_stale_rows_count_less_and_very_stale_ones_not_at_all():
    now = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0], [-1.0, 0.0]])
    then = torch.tensor([[2.0, 0.0], [1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    assert staleness(now, then, 0.5).tolist() == pytest.approx([1.0, 0.5**0.5, 0.0, 0.0])


def exchange(value):
    return {name: torch.tensor([value]) for name in ("rows", "sent", "got")}


def test_a_cache_keeps_the_last_exchanges_and_takes_what_was_left_alone_longest():
    cache = Cache(2)
    for value in range(3):
        cache.add(exchange(value))
    assert int(cache.turn()["rows"]) == 1
    copy = Cache(2)
    copy.resume(cache.loose())
    for one in (cache, copy):
        assert int(one.turn()["rows"]) == 2
        one.add(exchange(3))
        assert [int(one.turn()["rows"]) for _ in range(3)] == [2, 3, 2]


@pytest.mark.parametrize(("size", "updates"), [(3, 2), (3, 1), (5, 2), (2, 3)])
def test_every_exchange_is_used_as_often_as_any_other_and_not_at_once_alone(size, updates):
    """Exchanges and updates alternate as in training; each is used `updates` times but for those at the ends."""
    cache, uses, stale = Cache(size), [0] * 60, 0
    for value in range(60):
        cache.add(exchange(value))
        for _ in range(updates):
            found = int(cache.turn()["rows"])
            uses[found] += 1
            stale += found < value
    assert set(uses[size:-size]) == {updates}
    assert stale >= 60 * updates * (1 - 1 / size) - 2 * size


def test_cross_party_loss_by_hand():
    predicted = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    others = [torch.tensor([[3.0, 0.0], [1.0, 0.0]]), torch.tensor([[-1.0, 0.0], [0.0, 1.0]])]
    assert cross_loss(predicted, others).item() == pytest.approx(-((1 + 0) / 2 + (-1 + 1) / 2) / 2)
