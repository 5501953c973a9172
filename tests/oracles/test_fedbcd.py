"""FedBCD's two orders against a slow twin: who updates before the gradient is taken, and how often."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from vfl.methods import Desk, TrainOptions
from vfl.methods.fedbcd import Fedbcd
from vfl.seeds import Seeds
from vfl.types import Batch, Envelope, Kind, Pool, Role, Step, TableSchema

ROWS, LR = 6, 0.5
STEP = Step(0, "train", Pool.TRAIN, size=ROWS)


class Bottom(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, batch: Batch) -> torch.Tensor:
        return self.layer(batch.numeric)


class Rows:
    def __init__(self) -> None:
        stream = torch.Generator().manual_seed(0)
        numeric = torch.randn(ROWS, 3, generator=stream)
        labels = torch.tensor([0, 1, 0, 1, 1, 0])
        self.held = Batch(torch.arange(ROWS), numeric, torch.zeros(ROWS, 0, dtype=torch.int64), labels)

    def batch(self, step: Step) -> Batch:
        return self.held


def desk(bottom: nn.Module, top: nn.Module) -> Desk:
    train = TrainOptions(1, ROWS, lambda parameters: torch.optim.SGD(list(parameters), lr=LR))
    held: dict[str, Any] = {"rows": Rows(), "imputer": None, "penalty": lambda *_: None}
    return Desk(
        party="advertiser",
        role=Role.ADVERTISER,
        publishers=("publisher",),
        classes=2,
        schema=TableSchema(("a", "b", "c")),
        widths={"publisher": 2, "advertiser": 2},
        train=train,
        seeds=Seeds(0),
        bottom=lambda: copy.deepcopy(bottom),
        top=lambda width: copy.deepcopy(top),
        **held,
    )


@pytest.mark.parametrize(("order", "before", "after"), [("parallel", 0, 3), ("sequential", 3, 0)])
def test_the_gradient_is_that_of_the_weights_before_or_after_the_local_updates(order, before, after):
    torch.manual_seed(1)
    bottom, top, sent = Bottom(), nn.Linear(4, 1), torch.randn(ROWS, 2)
    side = Fedbcd(local_steps=3, order=order).advertiser(desk(bottom, top))
    mail = {"publisher": Envelope(0, Kind.EMBEDDING, "publisher", "advertiser", torch.arange(ROWS), sent.clone())}
    side.own(STEP, {})
    gradient = side.fuse(STEP, mail).bodies["publisher"]
    loss = side.finish(STEP, mail).report["loss"]

    batch, leaf = Rows().held, sent.clone().requires_grad_()

    def loss_of() -> torch.Tensor:
        logits = top(torch.cat([leaf, bottom(batch)], dim=1))[:, 0]
        return functional.binary_cross_entropy_with_logits(logits, batch.labels.float())

    first = loss_of().item()
    update(loss_of, bottom, top, before)
    (expected,) = torch.autograd.grad(loss_of(), leaf)
    update(loss_of, bottom, top, after)
    torch.testing.assert_close(gradient, expected)
    assert loss == pytest.approx(first)
    for name, module in (("bottom", bottom), ("top", top)):
        for key, value in module.state_dict().items():
            torch.testing.assert_close(side.parts[name].state_dict()[key], value)


def update(loss_of: Any, bottom: nn.Module, top: nn.Module, times: int) -> None:
    parameters = [*bottom.parameters(), *top.parameters()]
    for _ in range(times):
        with torch.no_grad():
            gradients = torch.autograd.grad(torch.enable_grad()(loss_of)(), parameters)
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter -= LR * gradient
