"""`vfl.backward` against `Tensor.backward`, which it stands in for."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from vfl.backward import backward

ROWS = 7


def _network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3))


def _gradients(network: nn.Module) -> list[Tensor | None]:
    return [parameter.grad for parameter in network.parameters()]


@pytest.mark.parametrize("times", [1, 2])
def test_it_leaves_what_torch_leaves_and_adds_where_torch_adds(times: int):
    ours = _network()
    theirs = copy.deepcopy(ours)
    for turn in range(times):
        rows, gradient = torch.randn(ROWS, 5), torch.randn(ROWS, 3)
        leaf, other = (rows.clone().requires_grad_() for _ in range(2))
        backward(ours(leaf), gradient)
        theirs(other).backward(gradient)
        backward(ours(leaf).square().mean() * (turn + 1))
        (theirs(other).square().mean() * (turn + 1)).backward()
        assert torch.equal(leaf.grad, other.grad)
        for mine, its in zip(_gradients(ours), _gradients(theirs), strict=True):
            assert mine is not None
            assert torch.equal(mine, its)


@pytest.mark.parametrize("shape", [(ROWS, 4), (ROWS - 1, 1), (ROWS,), (1, ROWS, 1)])
def test_a_gradient_of_another_shape_is_refused_even_one_that_could_be_summed(shape: tuple[int, ...]):
    output = nn.Linear(5, 1)(torch.randn(ROWS, 5))
    with pytest.raises(RuntimeError, match="allowed"):
        backward(output, torch.ones(shape))


def test_hooks_hear_of_it_and_a_graph_is_used_once():
    network, heard = _network(), list[str]()
    network[2].register_full_backward_hook(lambda *_: heard.append("module"))
    next(network.parameters()).register_post_accumulate_grad_hook(lambda _: heard.append("parameter"))
    output = network(torch.randn(ROWS, 5))
    backward(output, torch.ones(ROWS, 3))
    assert sorted(heard) == ["module", "parameter"]
    with pytest.raises(RuntimeError):
        backward(output, torch.ones(ROWS, 3))
    with pytest.raises(RuntimeError):
        backward(torch.ones(()))
