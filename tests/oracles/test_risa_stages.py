"""What a round of RISA trains, stage by stage, on rows small enough to see through."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from tests.oracles.method_desk import ALIGNED, ALONE, BESIDE, LEFT, WIDTH, Rows, desk, mail
from vfl.evidence import evidence, evidential_loss
from vfl.methods import TrainOptions
from vfl.methods._publisher import ChosenRowsPublisher
from vfl.methods.risa import Risa
from vfl.types import Pool, Role


def changed(before: dict[str, Any], part: nn.Module) -> bool:
    return any(not torch.equal(before[name], value) for name, value in part.state_dict().items())


def states(side: Any) -> dict[str, Any]:
    return {name: copy.deepcopy(side.parts[name].state_dict()) for name in ("top", "heads", "bottom")}


def test_teaching_trains_heads_and_bottoms_and_leaves_the_top_alone():
    torch.manual_seed(0)
    side = Risa().advertiser(desk(Role.ADVERTISER))
    sent, before = torch.randn(ALIGNED, WIDTH), states(side)
    side.own(ALONE, {})
    gradient = side.teach(ALONE, mail(sent)).bodies["publisher"]
    side.finish(ALONE, {})
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
    side.own(ALONE, {})
    head = copy.deepcopy(side.parts["heads"]["publisher"])
    with torch.no_grad():
        side.parts["heads"]["advertiser"].bias.fill_(-1e9)
    labels, leaf = Rows().batch(ALONE).labels, sent.clone().requires_grad_()
    alpha = evidence(head(leaf), "exp") + 1
    expected = 2 * evidential_loss(alpha, labels, "digamma", 0.0).sum() / ALIGNED
    expected.backward()
    found = side.teach(ALONE, mail(sent)).bodies["publisher"]
    torch.testing.assert_close(found, leaf.grad)


@pytest.mark.parametrize(("step", "rows"), [(ALONE, ALIGNED), (BESIDE, ALIGNED + LEFT)])
def test_a_publisher_sends_its_chosen_rows_beside_labelled_ones_but_not_to_be_taught(step, rows):
    side = ChosenRowsPublisher(desk(Role.PUBLISHER), everything=True)
    assert len(side.forward(step, {}).rows) == rows


class Flipped(Rows):
    """The same rows; those of the advertiser alone are of the other class."""

    def __init__(self):
        super().__init__()
        self._labels = torch.where(torch.arange(ALIGNED + LEFT) < ALIGNED, self._labels, 1 - self._labels)


@pytest.mark.parametrize(("labels", "heard"), [("known", True), ("unknown", False)])
def test_labels_of_the_advertisers_own_rows_are_used_only_where_they_are_known(labels, heard):
    after = []
    for rows in (Rows(), Flipped()):
        torch.manual_seed(0)
        held = replace(desk(Role.ADVERTISER), rows=rows)
        side = Risa(leftover_labels=labels).advertiser(held)
        side.own(BESIDE, {})
        side.fuse(BESIDE, mail(torch.ones(ALIGNED, WIDTH)))
        side.finish(BESIDE, {})
        after.append(states(side)["bottom"])
    assert changed(after[0], side.parts["bottom"]) == heard


def test_a_round_is_taught_before_it_is_assessed_and_may_go_without():
    train = TrainOptions(0, 16, lambda parameters: torch.optim.SGD(list(parameters), lr=0.1))
    kinds = [phase.name for phase in Risa(rounds=2).phases(train)]
    assert kinds == ["learn_0"] + [f"{what}_{at}" for at in (1, 2) for what in ("teach", "assess", "announce", "learn")]
    assert {phase.pool for phase in Risa().phases(train) if phase.name.startswith("teach")} == {Pool.TRAIN}
    assert not [phase for phase in Risa(head_steps=0).phases(train) if phase.name.startswith("teach")]
