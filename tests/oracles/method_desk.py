"""A desk for one side of a method: six aligned rows and four of its own, small enough to follow by hand."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from vfl.methods import Desk, TrainOptions
from vfl.registry import build
from vfl.seeds import Seeds
from vfl.types import Batch, Envelope, Kind, Pool, Role, Step, TableSchema

ALIGNED, LEFT, BASE, WIDTH, LR = 6, 4, 100, 2, 0.1
ALONE = Step(0, "aligned", Pool.TRAIN, size=ALIGNED)
BESIDE = Step(0, "both", Pool.LABELLED, size=ALIGNED + LEFT, of=ALIGNED + LEFT)


class Rows:
    """All rows of a pool in one batch."""

    def __init__(self) -> None:
        stream = torch.Generator().manual_seed(0)
        self._numeric = torch.randn(ALIGNED + LEFT, 3, generator=stream)
        self._labels = torch.tensor([0, 1, 0, 1, 1, 0, 1, 0, 0, 1])
        self.counts = {Pool.TRAIN: ALIGNED, Pool.LEFTOVER: LEFT}

    def handles(self, pool: Pool) -> torch.Tensor:
        return torch.arange(ALIGNED) if pool == Pool.TRAIN else BASE + torch.arange(LEFT)

    def take(self, rows: torch.Tensor) -> Batch:
        places = torch.where(rows < ALIGNED, rows, rows - BASE + ALIGNED)
        none = torch.zeros(len(rows), 0, dtype=torch.int64)
        return Batch(rows, self._numeric[places], none, self._labels[places])

    def batch(self, step: Step) -> Batch:
        return self.take(self.handles(Pool.LEFTOVER if step.pool == Pool.LEFTOVER else Pool.TRAIN))

    def believe(self, rows: torch.Tensor, labels: torch.Tensor) -> None:
        pass


class Bottom(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, WIDTH)

    def forward(self, batch: Batch) -> torch.Tensor:
        return self.layer(batch.numeric)


def desk(role: Role, bottom: nn.Module | None = None, top: nn.Module | None = None) -> Desk:
    """Return a desk whose networks are copies of those given, or new ones."""
    train = TrainOptions(1, 16, lambda parameters: torch.optim.SGD(list(parameters), lr=LR))
    held: dict[str, Any] = {"rows": Rows(), "imputer": lambda spec: build("impute", spec), "penalty": lambda *_: None}
    return Desk(
        party=role.value,
        role=role,
        publishers=("publisher",),
        classes=2,
        schema=TableSchema(("a", "b", "c")),
        widths={"publisher": WIDTH, "advertiser": WIDTH},
        train=train,
        seeds=Seeds(0),
        bottom=lambda: Bottom() if bottom is None else copy.deepcopy(bottom),
        top=lambda width: nn.Linear(width, 1) if top is None else copy.deepcopy(top),
        **held,
    )


def mail(body: torch.Tensor, kind: Kind = Kind.EMBEDDING) -> dict[str, Envelope]:
    """Return what comes of the aligned rows: a publisher's embeddings, or the advertiser's gradients."""
    src, dst = ("publisher", "advertiser") if kind == Kind.EMBEDDING else ("advertiser", "publisher")
    return {src: Envelope(0, kind, src, dst, torch.arange(ALIGNED), body.clone())}


def stepped(modules: list[nn.Module], loss: torch.Tensor) -> None:
    """Take one step of plain gradient descent."""
    parameters = [parameter for module in modules for parameter in module.parameters()]
    for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
        parameter.data -= LR * gradient


def same(found: nn.Module, expected: nn.Module) -> None:
    """Fail unless two networks have the same weights."""
    for name, value in expected.state_dict().items():
        torch.testing.assert_close(found.state_dict()[name], value)
