"""Our Adam is torch's to the bit, whatever happens between its steps."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from vfl.adam import Adam


def network() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 2))


def train(model: nn.Sequential, optimizer: torch.optim.Optimizer, between: str) -> list[torch.Tensor]:
    for step in range(12):
        stream = torch.Generator().manual_seed(step)
        optimizer.zero_grad()
        hidden = model[:2](torch.randn(9, 5, generator=stream))
        skipped = between == "a layer without gradient" and step in (0, 4, 5)
        (hidden.square().mean() if skipped else model[2](hidden).square().mean()).backward()
        optimizer.step()
        if between == "a state taken out" and step in (0, 6):
            optimizer.state.pop(model[0].weight, None)
        if between == "another rate" and step == 6:
            optimizer.param_groups[0]["lr"] = 0.05
        if between == "reloaded" and step in (0, 6):
            optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    return [parameter.detach() for parameter in model.parameters()]


@pytest.mark.parametrize(
    "between", ["nothing", "a layer without gradient", "a state taken out", "another rate", "reloaded"]
)
def test_every_step_is_torchs_own(between: str) -> None:
    ours, theirs = network(), network()
    mine, torchs = Adam(ours.parameters(), 0.01), torch.optim.Adam(theirs.parameters(), lr=0.01, fused=True)
    for own, other in zip(train(ours, mine, between), train(theirs, torchs, between), strict=True):
        assert torch.equal(own, other)
    for own, other in zip(mine.state_dict()["state"].values(), torchs.state_dict()["state"].values(), strict=True):
        assert own.keys() == other.keys()
        assert all(torch.equal(own[key], other[key]) for key in own)


def test_hooks_run_once_a_step_and_see_the_step_between_them() -> None:
    model = network()
    optimizer = Adam(model.parameters(), 0.01)
    seen: list[torch.Tensor] = []
    optimizer.register_step_pre_hook(lambda *_: seen.append(model[0].weight.detach().clone()))
    optimizer.register_step_post_hook(lambda *_: seen.append(model[0].weight.detach().clone()))
    train(model, optimizer, "nothing")
    assert len(seen) == 24
    assert not torch.equal(seen[0], seen[1])
    assert torch.equal(seen[1], seen[2])


def test_a_closure_is_refused() -> None:
    with pytest.raises(ValueError, match="closure"):
        Adam(network().parameters(), 0.01).step(lambda: 0.0)
