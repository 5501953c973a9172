"""FedCVT's pieces against hand-computed small cases."""

from __future__ import annotations

import math

import pytest
import torch

from vfl.errors import ConfigError
from vfl.methods._crossview import Halves, Pair, agreed, attended_label_loss, attention, common_loss, overlap_loss
from vfl.registry import build


def test_attention_by_hand():
    """Scores 0 and ln 3 over sqrt(1): weights 1/4 and 3/4; sharpened by T = 1/2 they are squared, 1/10 and 9/10."""
    queries, keys = torch.tensor([[math.log(3)]]), torch.tensor([[0.0], [1.0]])
    assert attention(queries, keys, 1.0, None)[0].tolist() == pytest.approx([0.25, 0.75])
    assert attention(queries, keys, 0.5, None)[0].tolist() == pytest.approx([0.1, 0.9])


def test_attention_is_scaled_by_the_root_of_the_width():
    queries, keys = torch.tensor([[math.log(3)] * 4]), torch.tensor([[0.0] * 4, [1.0, 1.0, 0.0, 0.0]])
    assert attention(queries, keys, 1.0, None)[0].tolist() == pytest.approx([0.25, 0.75])


def test_a_row_does_not_attend_to_itself():
    body = torch.tensor([[5.0], [1.0], [0.0]])
    weights = attention(body, body, 1.0, torch.eye(3).bool())
    assert weights.diagonal().tolist() == [0.0, 0.0, 0.0]
    assert weights.sum(dim=1).tolist() == pytest.approx([1.0, 1.0, 1.0])


def test_halves():
    unique, common = Halves(1).cut(torch.tensor([[1.0, 2.0, 3.0]]))
    assert (unique.tolist(), common.tolist()) == ([[1.0, 2.0]], [[3.0]])


def test_common_parts_attend_across_parties_and_unique_parts_within_one():
    """The row is like the first aligned row in our unique part, and like the second in their common part alone."""
    ours = torch.tensor([[100.0, 100.0], [0.0, 0.0]])
    theirs = torch.tensor([[1.0, 0.0], [2.0, 100.0]])
    pair, body = Pair(Halves(1), ours, theirs), torch.tensor([[1.0, 1.0]])
    assert pair.estimate(pair.weights(body, 1.0, None)).tolist() == [[1.0, 100.0]]


def test_losses_by_hand():
    assert common_loss(torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0, 4.0]])).item() == 2.5
    unique, common = torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([[3.0], [2.0]])
    assert overlap_loss(unique, common).item() == pytest.approx(5 / 2)  # products 3 and 4, norm 5, two rows
    weights = torch.tensor([[0.25, 0.5, 0.25], [0.1, 0.2, 0.7]])
    found = attended_label_loss(weights, torch.tensor([0, 1]), torch.tensor([0, 1, 0]))
    assert found.item() == pytest.approx(-(math.log(0.5) + math.log(0.2)) / 2)


def test_views_must_agree_and_each_be_sure():
    joint = torch.tensor([[0.8, 0.2], [0.8, 0.2], [0.6, 0.4], [0.1, 0.9]])
    other = torch.tensor([[0.9, 0.1], [0.4, 0.6], [0.9, 0.1], [0.3, 0.7]])
    classes, sure = agreed([joint, other], [0.7, 0.65])
    assert classes.tolist() == [0, 0, 0, 1]
    assert sure.tolist() == [True, False, False, True]


@pytest.mark.parametrize("bad", [{"temperature": 0.0}, {"thresholds": (0.5, 0.5)}, {"keys": 0}])
def test_options_out_of_range_are_refused(bad):
    with pytest.raises(ConfigError):
        build("method", {"name": "fedcvt", **bad})
