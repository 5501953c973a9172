"""Checkpoints: training goes on from one as if it had never stopped, and a broken one is refused by name."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from vfl import checkpoint
from vfl.adam import Adam
from vfl.errors import DataError


def network() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 2))


OPTIMIZERS = {
    "adam": lambda it: torch.optim.Adam(it, lr=0.01),
    "adam fused": lambda it: torch.optim.Adam(it, lr=0.01, fused=True),
    "adam of ours": lambda it: Adam(it, 0.01),
    "amsgrad": lambda it: torch.optim.Adam(it, lr=0.01, amsgrad=True, weight_decay=0.1),
    "sgd": lambda it: torch.optim.SGD(it, lr=0.1, fused=True),
    "momentum": lambda it: torch.optim.SGD(it, lr=0.1, momentum=0.9, nesterov=True),
}


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        stream = torch.Generator().manual_seed(step)
        loss = (model(torch.randn(16, 6, generator=stream)) - 1).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS.keys())
def test_a_resumed_run_is_bit_identical_to_one_that_never_stopped(tmp_path, make):
    whole = network()
    optimizer = make(whole.parameters())
    train(whole, optimizer, range(7))
    path = tmp_path / "checkpoints" / "step-7.safetensors"
    checkpoint.save(path, checkpoint.flatten({"bottom": whole, "optimizer": optimizer}), {"step": 7})
    train(whole, optimizer, range(7, 14))

    torch.manual_seed(2)
    resumed = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 2))
    again = make(resumed.parameters())
    tensors, facts = checkpoint.load(path)
    checkpoint.restore({"bottom": resumed, "optimizer": again}, tensors)
    assert facts == {"step": 7}
    train(resumed, again, range(7, 14))
    for name, value in whole.state_dict().items():
        assert torch.isfinite(value).all()
        assert torch.equal(resumed.state_dict()[name], value), name


@pytest.mark.parametrize("forgotten", ["optimizer", "bottom"])
def test_without_one_of_its_parts_the_run_goes_another_way(forgotten):
    """The control: momentum and weights both matter to what the test above compares."""
    whole = network()
    optimizer = OPTIMIZERS["momentum"](whole.parameters())
    train(whole, optimizer, range(7))
    tensors = checkpoint.flatten({"bottom": whole, "optimizer": optimizer})
    train(whole, optimizer, range(7, 14))
    resumed = network()
    again = OPTIMIZERS["momentum"](resumed.parameters())
    parts = {"bottom": resumed, "optimizer": again}
    checkpoint.restore({name: part for name, part in parts.items() if name != forgotten}, tensors)
    train(resumed, again, range(7, 14))
    assert not torch.equal(resumed.state_dict()["0.weight"], whole.state_dict()["0.weight"])


def test_flatten_is_a_copy_and_names_do_not_mix():
    modules = {"bottom": nn.Linear(2, 1), "bottom2": nn.Linear(2, 1), "top": nn.Linear(1, 1)}
    tensors = checkpoint.flatten(modules)
    kept = copy.deepcopy(tensors)
    for module in modules.values():
        nn.init.zeros_(module.weight)
    assert all(torch.equal(tensors[name], kept[name]) for name in kept)
    assert not any(value.requires_grad for value in tensors.values())
    checkpoint.restore(modules, tensors)
    for name, module in modules.items():
        assert torch.equal(module.weight, kept[f"{name}.weight"])


def test_facts_and_tensors_survive_as_they_are(tmp_path):
    tensors = {"a": torch.tensor([1.5, float("nan")]), "b": torch.empty(0, 3, dtype=torch.int64), "c": torch.tensor(7)}
    facts = {"step": 3, "chains": {"advertiser": "00ff"}, "ratio": 0.1, "none": None}
    path = tmp_path / "x.safetensors"
    checkpoint.save(path, tensors, facts)
    found, told = checkpoint.load(path)
    assert told == facts
    assert {name: (value.dtype, value.shape, value.numpy().tobytes()) for name, value in found.items()} == {
        name: (value.dtype, value.shape, value.numpy().tobytes()) for name, value in tensors.items()
    }


BROKEN = {
    "absent": lambda raw: None,
    "empty": lambda raw: b"",
    "cut short": lambda raw: raw[:-5],
    "no header": lambda raw: raw[:4],
    "not safetensors": lambda raw: b"PK\3\4" + raw,
    "header out of bounds": lambda raw: (2**40).to_bytes(8, "little") + raw[8:],
    "no facts": lambda raw: raw.replace(b'"facts"', b'"fects"'),
    "other facts": lambda raw: raw.replace(b'{\\"step\\": 3}', b'{\\"step\\": 4}'),
    "facts not json": lambda raw: raw.replace(b'{\\"step\\": 3}', b'[\\"step\\": 3}'),
}


@pytest.mark.parametrize("damage", BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_file_is_refused_by_name(tmp_path, damage):
    path = tmp_path / "step-3.safetensors"
    checkpoint.save(path, {"a": torch.ones(100)}, {"step": 3})
    raw = path.read_bytes()
    damaged = damage(raw)
    assert damaged != raw
    path.unlink()
    if damaged is not None:
        path.write_bytes(damaged)
    with pytest.raises(DataError, match="not as it was written") as caught:
        checkpoint.load(path)
    assert caught.value.where == str(path)


def test_it_holds_no_pickle(tmp_path):
    path = tmp_path / "x.safetensors"
    checkpoint.save(path, checkpoint.flatten({"bottom": network()}), {})
    assert int.from_bytes(path.read_bytes()[:8], "little") < 2000
    assert path.read_bytes()[8:9] == b"{"
    assert b"torch" not in path.read_bytes()
