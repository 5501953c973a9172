"""Cross-fitting: a row is held out from the bottom that embeds it for the generator."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from vfl.methods import Desk, TrainOptions
from vfl.methods._folds import FoldedPublisher
from vfl.seeds import Seeds
from vfl.types import Batch, Envelope, Kind, Pool, Role, Step, TableSchema

ROWS = 7
STEP = Step(0, "warm", Pool.TRAIN, size=ROWS)


class Table(nn.Module):
    """A bottom with one free weight a row: what it learns of a row shows in that row alone."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = nn.Parameter(torch.zeros(ROWS, 1))

    def forward(self, batch: Batch) -> torch.Tensor:
        return self.rows[batch.rows]


class Rows:
    def batch(self, step: Step) -> Batch:
        return self.take(torch.tensor([3, 0, 6, 1, 2, 5, 4]))

    def take(self, rows: torch.Tensor) -> Batch:
        return Batch(rows, torch.zeros(len(rows), 0), torch.zeros(len(rows), 0, dtype=torch.int64))


def test_what_is_held_out_was_not_trained_on_and_what_trains_was():
    given: dict[str, Any] = {"rows": Rows(), "imputer": None, "top": None, "penalty": None}
    train = TrainOptions(1, ROWS, lambda parameters: torch.optim.SGD(list(parameters), lr=1.0))
    facts: dict[str, Any] = {"party": "publisher", "role": Role.PUBLISHER, "publishers": ("publisher",), "classes": 2}
    desk = Desk(
        **facts, schema=TableSchema(), widths={"publisher": 1}, train=train, seeds=Seeds(0), bottom=Table, **given
    )
    side = FoldedPublisher(desk)
    sent = side.forward(STEP, {})
    ones = torch.ones(ROWS, 1)
    side.backward(STEP, {"advertiser": Envelope(0, Kind.GRADIENT, "advertiser", "publisher", sent.rows, ones)})
    assert side.hold_out(STEP, {}).bodies["advertiser"].tolist() == [[0.0]] * ROWS
    assert side.forward(STEP, {}).bodies["advertiser"].tolist() == [[-1.0]] * ROWS
