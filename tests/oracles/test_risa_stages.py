"""What a round of RISA trains, stage by stage, on rows small enough to see through."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from vfl.evidence import evidence, evidential_loss
from vfl.methods import Desk, TrainOptions
from vfl.methods._publisher import ChosenRowsPublisher
from vfl.methods.risa import Risa
from vfl.registry import build
from vfl.seeds import Seeds
from vfl.types import Batch, Envelope, Kind, Pool, Role, Step, TableSchema

ALIGNED, LEFT, BASE, WIDTH, LR = 6, 4, 100, 2, 0.1
TEACHING = Step(0, "teach_1", Pool.TRAIN, size=ALIGNED)
LEARNING = Step(0, "learn_1", Pool.LABELLED, size=ALIGNED + LEFT, of=ALIGNED + LEFT)


class Rows:
    """Six aligned rows and four of its own, all read at once."""

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


def desk(role: Role) -> Desk:
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
        bottom=Bottom,
        top=lambda width: nn.Linear(width, 1),
        **held,
    )


def mail(rows: torch.Tensor, body: torch.Tensor) -> dict[str, Envelope]:
    return {"publisher": Envelope(0, Kind.EMBEDDING, "publisher", "advertiser", rows, body)}


def changed(before: dict[str, Any], part: nn.Module) -> bool:
    return any(not torch.equal(before[name], value) for name, value in part.state_dict().items())


def states(side: Any) -> dict[str, Any]:
    return {name: copy.deepcopy(side.parts[name].state_dict()) for name in ("top", "heads", "bottom")}


def test_teaching_trains_heads_and_bottoms_and_leaves_the_top_alone():
    torch.manual_seed(0)
    side = Risa().advertiser(desk(Role.ADVERTISER))
    sent, before = torch.randn(ALIGNED, WIDTH), states(side)
    side.own(TEACHING, {})
    gradient = side.teach(TEACHING, mail(torch.arange(ALIGNED), sent.clone())).bodies["publisher"]
    side.finish(TEACHING, {})
    assert not changed(before["top"], side.parts["top"])
    assert changed(before["heads"], side.parts["heads"])
    assert changed(before["bottom"], side.parts["bottom"])
    assert gradient.abs().sum() > 0


def test_what_is_taught_is_each_heads_evidence_and_their_fusion():
    """An advertiser without evidence leaves the publisher's opinion alone and once more as the fused one."""
    torch.manual_seed(0)
    options = Risa(divergence=0.0, fusion="dempster", evidence_weight=0.0)
    side = options.advertiser(desk(Role.ADVERTISER))
    sent = torch.randn(ALIGNED, WIDTH)
    side.own(TEACHING, {})
    head = copy.deepcopy(side.parts["heads"]["publisher"])
    with torch.no_grad():
        side.parts["heads"]["advertiser"].bias.fill_(-1e9)
    labels, leaf = Rows().batch(TEACHING).labels, sent.clone().requires_grad_()
    alpha = evidence(head(leaf), "exp") + 1
    expected = 2 * evidential_loss(alpha, labels, "digamma", 0.0).sum() / ALIGNED
    expected.backward()
    found = side.teach(TEACHING, mail(torch.arange(ALIGNED), sent)).bodies["publisher"]
    torch.testing.assert_close(found, leaf.grad)


@pytest.mark.parametrize(("step", "rows"), [(TEACHING, ALIGNED), (LEARNING, ALIGNED + LEFT)])
def test_a_publisher_sends_its_chosen_rows_beside_labelled_ones_but_not_to_be_taught(step, rows):
    side = ChosenRowsPublisher(desk(Role.PUBLISHER), everything=True)
    assert len(side.forward(step, {}).rows) == rows


def test_a_round_is_taught_before_it_is_assessed_and_may_go_without():
    train = TrainOptions(0, 16, lambda parameters: torch.optim.SGD(list(parameters), lr=LR))
    kinds = [phase.name for phase in Risa(rounds=2).phases(train)]
    assert kinds == ["learn_0"] + [f"{what}_{at}" for at in (1, 2) for what in ("teach", "assess", "announce", "learn")]
    assert {phase.pool for phase in Risa().phases(train) if phase.name.startswith("teach")} == {Pool.TRAIN}
    assert not [phase for phase in Risa(head_steps=0).phases(train) if phase.name.startswith("teach")]
