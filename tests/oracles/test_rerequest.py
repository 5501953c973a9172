"""Rows that converted between two trainings, found by a publisher that took part in both."""

from __future__ import annotations

import pytest
import torch
from sklearn.metrics import roc_auc_score

from vfl.attacks._rerequest import late_conversions
from vfl.transcript import Pooled

ROWS, DIM = 4000, 5


def trained(labels, chances, rows, seed) -> Pooled:
    """Two epochs of logistic gradients (p - y) w, with p moving a little from epoch to epoch."""
    stream = torch.Generator().manual_seed(seed)
    weights = torch.linspace(-1, 1, DIM).double()
    bodies = [
        (chances + 0.02 * torch.randn(ROWS, generator=stream).double() - labels)[rows, None] * weights for _ in range(2)
    ]
    steps = torch.arange(2).repeat_interleave(len(rows))
    return Pooled(steps, rows.repeat(2), torch.cat(bodies))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_rows_that_converted_in_between_are_told_from_all_others(seed):
    stream = torch.Generator().manual_seed(seed)
    first = (torch.rand(ROWS, generator=stream) < 0.1).double()
    late = (torch.rand(ROWS, generator=stream) < 0.03) & (first == 0)
    second = torch.where(late, 1.0, first)
    chances = 0.1 + 0.2 * torch.rand(ROWS, generator=stream).double()
    some, more = torch.arange(ROWS - 100), torch.randperm(ROWS, generator=stream)[: ROWS - 200]
    rows, scores = late_conversions(trained(first, chances, some, seed), trained(second, chances + 0.03, more, 9))
    assert torch.equal(rows, some[torch.isin(some, more)])
    assert roc_auc_score(late[rows], scores) > 0.999


def test_nothing_is_told_where_no_label_changed():
    stream = torch.Generator().manual_seed(5)
    labels = (torch.rand(ROWS, generator=stream) < 0.1).double()
    chances, rows = torch.full((ROWS,), 0.1).double(), torch.arange(ROWS)
    _, scores = late_conversions(trained(labels, chances, rows, 1), trained(labels, chances, rows, 2))
    assert abs(roc_auc_score(labels, scores) - 0.5) < 0.04
