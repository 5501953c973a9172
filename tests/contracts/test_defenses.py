"""What every registered defense promises, whatever it does."""

from __future__ import annotations

import dataclasses
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.contracts.members import DEFENSES, cases, label
from vfl.defenses import Defense, SendContext
from vfl.registry import build, names
from vfl.types import Kind, Role

ROWS, DIM = 48, 6


def test_every_member_has_a_row():
    assert sorted(DEFENSES) == names("defense")


@pytest.fixture(params=cases(DEFENSES), ids=label)
def spec(request) -> dict[str, Any]:
    return request.param


@pytest.fixture
def defense(spec) -> Defense:
    return build("defense", spec)


def gradients(seed: int = 0, rows: int = ROWS) -> tuple[Tensor, Tensor]:
    """A batch like a cut layer's: positives pushed one way, negatives gently the other."""
    stream = torch.Generator().manual_seed(seed)
    labels = (torch.rand(rows, generator=stream) < 0.25).long()
    labels[:2] = torch.tensor([0, 1])[: min(rows, 2)]
    line = torch.randn(DIM, generator=stream)
    push = torch.where(labels == 1, -0.9, 0.1)[:, None]
    return (push * line + 0.05 * torch.randn(rows, DIM, generator=stream)) / rows, labels


def context(defense: Defense, labels: Tensor, *, step: int = 0, seed: int = 7, classes: int = 2) -> SendContext:
    known = labels if defense.side is Role.ADVERTISER else None
    return SendContext(step, torch.Generator().manual_seed(seed), known, classes)


def same(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def test_declares_where_it_stands(defense):
    assert defense.kinds
    assert defense.kinds <= set(Kind)
    assert isinstance(defense.side, Role)
    assert isinstance(defense.binary_only, bool)
    assert dataclasses.is_dataclass(defense)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_keeps_shape_and_dtype(defense, dtype):
    body, labels = gradients()
    sent, _ = defense.apply(body.to(dtype), defense.init(), context(defense, labels))
    assert sent.shape == body.shape
    assert sent.dtype == dtype


def test_changes_neither_body_nor_state_in_place(defense):
    body, labels = gradients()
    _, state = defense.apply(*(gradients(1)[0], defense.init()), context(defense, gradients(1)[1]))
    before_body, before_state = body.clone(), {name: value.clone() for name, value in state.items()}
    sent, _ = defense.apply(body, state, context(defense, labels))
    sent.zero_()
    assert torch.equal(body, before_body)
    assert same(state, before_state)


def test_draws_only_from_its_own_stream(defense):
    body, labels = gradients()
    torch.manual_seed(1)
    first, state = defense.apply(body, defense.init(), context(defense, labels))
    torch.manual_seed(2)
    untouched = torch.get_rng_state()
    second, again = defense.apply(body, defense.init(), context(defense, labels))
    assert torch.equal(first, second)
    assert same(state, again)
    assert torch.equal(torch.get_rng_state(), untouched)


def test_is_restored_from_its_pickle_and_its_state(defense):
    later, labels = gradients(2)
    _, state = defense.apply(gradients(1)[0], defense.init(), context(defense, gradients(1)[1]))
    expected, _ = defense.apply(later, state, context(defense, labels, step=1))
    restored = pickle.loads(pickle.dumps(defense))
    carried = {name: torch.tensor(value.tolist(), dtype=value.dtype) for name, value in state.items()}
    sent, _ = restored.apply(later, carried, context(restored, labels, step=1))
    assert restored == defense
    assert torch.equal(sent, expected)


@pytest.mark.parametrize("earlier", [False, True], ids=["first", "later"])
@pytest.mark.parametrize(
    ("body", "labels"),
    [
        (torch.zeros(0, DIM), torch.zeros(0).long()),
        (torch.zeros(8, DIM), torch.tensor([0, 1] * 4)),
        (torch.randn(1, DIM, generator=torch.Generator().manual_seed(0)), torch.tensor([1])),
        (torch.full((8, DIM), 0.3), torch.tensor([0, 1] * 4)),
        (gradients()[0], torch.zeros(ROWS).long()),
        (gradients()[0], torch.ones(ROWS).long()),
        (gradients()[0] * 1e-30, gradients()[1]),
        (gradients()[0] * 1e12, gradients()[1]),
        (gradients()[0][:, :1], gradients()[1]),
    ],
    ids=["no-rows", "zero", "one-row", "constant", "no-positive", "no-negative", "tiny", "huge", "one-column"],
)
def test_stays_finite_on_odd_batches(defense, body, labels, earlier):
    state = defense.init()
    if earlier:
        usual, truth = gradients(1)
        _, state = defense.apply(usual[:, : body.shape[1]], state, context(defense, truth))
    sent, after = defense.apply(body, state, context(defense, labels, step=1))
    assert sent.shape == body.shape
    assert torch.isfinite(sent).all()
    assert all(torch.isfinite(value).all() for value in after.values())


def test_takes_more_classes_where_it_says_so(defense):
    if defense.binary_only:
        pytest.skip("two classes only")
    body, labels = gradients()
    sent, _ = defense.apply(body, defense.init(), context(defense, labels * 2, classes=3))
    assert torch.isfinite(sent).all()
