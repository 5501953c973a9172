"""What every registered defense promises, whatever it does, by the hooks it has."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from tests.contracts.members import DEFENSES, cases, label
from vfl.defenses import (
    Defense,
    Guard,
    LabelContext,
    LabelTransform,
    Penalty,
    PenaltyContext,
    ReceiveContext,
    SendContext,
    Wrap,
    hard,
)
from vfl.models.mlp import Mlp
from vfl.privacy.ledger import Accounted, Plan, compose
from vfl.registry import build, names
from vfl.seeds import Seeds
from vfl.types import Batch, Envelope, Kind, Role, TableSchema

ROWS, DIM = 48, 6
HOOKS = (Defense, Guard, LabelTransform, Penalty, Wrap)


def having(hook: type) -> list[dict[str, Any]]:
    return [spec for spec in cases(DEFENSES) if isinstance(build("defense", spec), hook)]


def each(hook: type):
    return pytest.mark.parametrize(
        "defense", [build("defense", spec) for spec in having(hook)], ids=map(label, having(hook))
    )


EVERY = pytest.mark.parametrize(
    "defense", [build("defense", spec) for spec in cases(DEFENSES)], ids=map(label, cases(DEFENSES))
)


def test_every_member_has_a_row():
    assert sorted(DEFENSES) == names("defense")


def gradients(seed: int = 0, rows: int = ROWS) -> tuple[Tensor, Tensor]:
    """A batch like a cut layer's: positives pushed one way, negatives gently the other."""
    stream = torch.Generator().manual_seed(seed)
    labels = (torch.rand(rows, generator=stream) < 0.25).long()
    labels[:2] = torch.tensor([0, 1])[: min(rows, 2)]
    line = torch.randn(DIM, generator=stream)
    push = torch.where(labels == 1, -0.9, 0.1)[:, None]
    return (push * line + 0.05 * torch.randn(rows, DIM, generator=stream)) / rows, labels


def context(
    defense: Defense, labels: Tensor, *, body: Tensor | None = None, step: int = 0, seed: int = 7, classes: int = 2
) -> SendContext:
    known = labels if defense.side is Role.ADVERTISER else None
    body = gradients()[0] if body is None else body
    others = torch.stack([body * (1 - 2 * place / classes) for place in range(classes)])
    rows = torch.arange(len(labels)) + 5
    return SendContext(step, torch.Generator().manual_seed(seed), known, classes, rows=rows, by_class=lambda: others)


def same(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


@EVERY
def test_declares_where_it_stands(defense):
    assert isinstance(defense, HOOKS)
    assert isinstance(defense.side, Role)
    assert isinstance(defense.binary_only, bool)
    assert dataclasses.is_dataclass(defense)
    assert pickle.loads(pickle.dumps(defense)) == defense


@each(Accounted)
def test_spends_only_what_composes_to_an_epsilon(defense):
    short, long = (defense.ledger(Plan(epochs, 2)) for epochs in (1, 10))
    for spends in (short, long):
        for entry in compose("publisher", spends):
            assert 0 < entry.epsilon < float("inf")
            assert 0 <= entry.delta < 1
            assert entry.unit
            assert entry.accountant
    total = [sum(entry.epsilon for entry in compose("publisher", spends)) for spends in (short, long)]
    assert total[0] <= total[1]


class TestSending:
    pytestmark = each(Defense)

    def test_names_kinds(self, defense):
        assert defense.kinds
        assert defense.kinds <= set(Kind)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_keeps_shape_and_dtype(self, defense, dtype):
        body, labels = gradients()
        sent, _ = defense.apply(body.to(dtype), defense.init(), context(defense, labels))
        assert sent.shape == body.shape
        assert sent.dtype == dtype

    def test_changes_neither_body_nor_state_in_place(self, defense):
        body, labels = gradients()
        _, state = defense.apply(*(gradients(1)[0], defense.init()), context(defense, gradients(1)[1]))
        before_body, before_state = body.clone(), {name: value.clone() for name, value in state.items()}
        sent, _ = defense.apply(body, state, context(defense, labels))
        sent.zero_()
        assert torch.equal(body, before_body)
        assert same(state, before_state)

    def test_draws_only_from_its_own_stream(self, defense):
        body, labels = gradients()
        torch.manual_seed(1)
        first, state = defense.apply(body, defense.init(), context(defense, labels))
        torch.manual_seed(2)
        untouched = torch.get_rng_state()
        second, again = defense.apply(body, defense.init(), context(defense, labels))
        assert torch.equal(first, second)
        assert same(state, again)
        assert torch.equal(torch.get_rng_state(), untouched)

    def test_is_restored_from_its_pickle_and_its_state(self, defense):
        later, labels = gradients(2)
        _, state = defense.apply(gradients(1)[0], defense.init(), context(defense, gradients(1)[1]))
        expected, _ = defense.apply(later, state, context(defense, labels, step=1))
        restored = pickle.loads(pickle.dumps(defense))
        carried = {name: torch.tensor(value.tolist(), dtype=value.dtype) for name, value in state.items()}
        sent, _ = restored.apply(later, carried, context(restored, labels, step=1))
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
    def test_stays_finite_on_odd_batches(self, defense, body, labels, earlier):
        state = defense.init()
        if earlier:
            usual, truth = gradients(1)
            usual = usual[:, : body.shape[1]]
            _, state = defense.apply(usual, state, context(defense, truth, body=usual))
        sent, after = defense.apply(body, state, context(defense, labels, body=body, step=1))
        assert sent.shape == body.shape
        assert torch.isfinite(sent).all()
        assert all(torch.isfinite(value).all() for value in after.values())

    def test_takes_more_classes_where_it_says_so(self, defense):
        if defense.binary_only:
            pytest.skip("two classes only")
        body, labels = gradients()
        sent, _ = defense.apply(body, defense.init(), context(defense, labels * 2, classes=3))
        assert torch.isfinite(sent).all()


def received(
    defense: Guard, body: Tensor, *, step: int = 0, learning: bool = True, bare: bool = False
) -> ReceiveContext:
    """What a guard is told: its own columns, what a third party sent, what it sent itself; nothing where `bare`."""
    kind, rows = min(defense.receives), torch.arange(len(body)) + 5
    envelope = Envelope(step, kind, "them", "us", rows, body)
    stream = torch.Generator().manual_seed(7 + step)
    if bare:
        return ReceiveContext(envelope, learning, stream, 2)
    own = batch(len(body), labelled=defense.side is Role.ADVERTISER)
    beside = {"third": torch.randn(len(body), 3, generator=torch.Generator().manual_seed(step))}
    sent = torch.randn(len(body), DIM, generator=torch.Generator().manual_seed(50 + step))
    return ReceiveContext(envelope, learning, stream, 2, own, beside, sent if kind == Kind.GRADIENT else None)


def guarded(defense: Guard, batches: int, state: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
    """The state of a guard that has seen so many batches."""
    state = defense.init() if state is None else state
    for step in range(batches):
        body = gradients(step)[0]
        _, state = defense.inspect(body, state, received(defense, body, step=step))
    return state


class TestGuard:
    pytestmark = each(Guard)

    def test_names_kinds_that_reach_its_side(self, defense):
        reaches = {Kind.EMBEDDING: Role.ADVERTISER, Kind.GRADIENT: Role.PUBLISHER}
        assert {reaches[kind] for kind in defense.receives} == {defense.side}
        assert defense.act in ("report", "repair", "refuse")

    def test_gives_an_opinion_on_every_row_and_changes_nothing_in_place(self, defense):
        state, body = guarded(defense, 3), gradients(9)[0]
        before, told = body.clone(), {name: value.clone() for name, value in state.items()}
        verdict, after = defense.inspect(body, state, received(defense, body, step=3))
        assert verdict.suspicion.shape == verdict.flagged.shape == (len(body),)
        assert verdict.flagged.dtype == torch.bool
        assert (verdict.repaired.shape, verdict.repaired.dtype) == (body.shape, body.dtype)
        assert torch.equal(body, before)
        assert same(state, told)
        assert after.keys() == state.keys()

    def test_draws_only_from_its_own_stream_and_goes_on_from_its_state(self, defense):
        state, body = guarded(defense, 3), gradients(9)[0]
        untouched = torch.get_rng_state()
        first, after = defense.inspect(body, state, received(defense, body, step=3))
        restored = pickle.loads(pickle.dumps(defense))
        carried = {name: torch.tensor(value.tolist(), dtype=value.dtype) for name, value in state.items()}
        second, again = restored.inspect(body, carried, received(restored, body, step=3))
        assert torch.equal(torch.get_rng_state(), untouched)
        assert torch.equal(first.suspicion, second.suspicion)
        assert torch.equal(first.flagged, second.flagged)
        assert torch.equal(first.repaired, second.repaired)
        assert same(after, again)

    @pytest.mark.parametrize("bare", [False, True], ids=["told", "bare"])
    @pytest.mark.parametrize(
        "body",
        [
            torch.zeros(0, DIM),
            torch.zeros(8, DIM),
            torch.ones(1, DIM),
            torch.full((40, DIM), 0.3),
            gradients()[0] * 1e-30,
            gradients()[0] * 1e12,
        ],
        ids=["no-rows", "zero", "one-row", "constant", "tiny", "huge"],
    )
    def test_stays_finite_on_odd_batches(self, defense, body, bare):
        for state in (defense.init(), guarded(defense, 3)):
            verdict, after = defense.inspect(body, state, received(defense, body, step=3, bare=bare))
            assert torch.isfinite(verdict.suspicion).all()
            assert torch.isfinite(verdict.repaired).all()
            assert all(torch.isfinite(value).all() for value in after.values())

    def test_learns_nothing_from_rows_that_are_not_trained_on(self, defense):
        if Kind.GRADIENT in defense.receives:
            pytest.skip("there are no gradients but in training")
        state, body = guarded(defense, 3), gradients(9)[0]
        _, after = defense.inspect(body, state, received(defense, body, step=3, learning=False))
        assert same(state, after)


def label_context(classes: int, epoch: int = 0, seed: int = 7) -> LabelContext:
    def teach(labels: Tensor, rows: Tensor) -> Tensor:
        assert len(labels) == len(rows)
        return torch.rand((300, classes), generator=torch.Generator().manual_seed(3)).softmax(dim=1)

    return LabelContext(Seeds(seed), classes, epoch, teach)


def some_labels(classes: int) -> Tensor:
    return torch.randint(classes, (300,), generator=torch.Generator().manual_seed(classes))


class TestLabels:
    pytestmark: ClassVar = [each(LabelTransform), pytest.mark.parametrize("classes", [2, 4])]

    def test_gives_classes_or_weights_of_every_row(self, defense, classes):
        made = defense.transform(some_labels(classes), label_context(classes))
        if made.ndim == 1:
            assert made.dtype == torch.int64
        else:
            assert made.dtype == torch.float32
            assert made.shape[1] == classes
        assert len(made) == 300
        assert torch.isfinite(made).all()
        assert set(hard(made).tolist()) <= set(range(classes))

    def test_belongs_to_the_label_owner(self, defense, classes):
        assert defense.side is Role.ADVERTISER

    def test_draws_only_from_its_own_stream_and_leaves_labels_alone(self, defense, classes):
        labels = some_labels(classes)
        before, untouched = labels.clone(), torch.get_rng_state()
        first = defense.transform(labels, label_context(classes))
        assert torch.equal(torch.get_rng_state(), untouched)
        assert torch.equal(first, pickle.loads(pickle.dumps(defense)).transform(labels, label_context(classes)))
        assert torch.equal(labels, before)

    def test_is_made_anew_for_an_epoch_only_where_it_says_so(self, defense, classes):
        labels = some_labels(classes)
        first, second = (defense.transform(labels, label_context(classes, epoch)) for epoch in (0, 1))
        assert torch.equal(first, second) != defense.each_epoch

    def test_takes_no_rows(self, defense, classes):
        assert len(defense.transform(some_labels(classes)[:0], dataclasses.replace(
            label_context(classes), teach=lambda labels, rows: torch.empty(0, classes)
        ))) == 0  # fmt: skip


def batch(rows: int, classes: int = 2, labelled: bool = True) -> Batch:
    stream = torch.Generator().manual_seed(rows)
    labels = torch.randint(classes, (rows,), generator=stream) if labelled else None
    numeric = torch.randn(rows, 3, generator=stream)
    return Batch(torch.arange(rows), numeric, torch.randint(5, (rows, 2), generator=stream), labels)


class TestPenalty:
    pytestmark = each(Penalty)

    @pytest.mark.parametrize("rows", [40, 1])
    @pytest.mark.parametrize("make", [torch.randn, torch.zeros], ids=["random", "zero"])
    def test_is_a_finite_scalar_with_finite_gradients(self, defense, rows, make):
        h = make(rows, DIM).requires_grad_()
        ctx = PenaltyContext(0, torch.Generator().manual_seed(0), batch(rows), 2)
        found = defense.penalty(h, ctx)
        found.backward()
        assert found.shape == ()
        assert torch.isfinite(found)
        assert h.grad is not None
        assert torch.isfinite(h.grad).all()

    def test_draws_only_from_its_own_stream(self, defense):
        h, untouched = torch.randn(40, DIM), torch.get_rng_state()
        made = [defense.penalty(h, PenaltyContext(0, torch.Generator().manual_seed(0), batch(40), 2)) for _ in range(2)]
        assert torch.equal(made[0], made[1])
        assert torch.equal(torch.get_rng_state(), untouched)


SCHEMA = TableSchema(("a", "b", "c"), ("d", "e"), (5, 5))


def network(place: str, classes: int = 2) -> nn.Module:
    with Seeds(1).initialising(place):
        return Mlp((8,), 3).bottom(SCHEMA, Role.PUBLISHER, DIM) if place == "bottom" else Mlp((8,)).top(DIM, classes)


def wrapped(defense: Wrap, classes: int = 2) -> nn.Module:
    with Seeds(2).initialising("wrap"):
        return defense.wrap(network(defense.place, classes), Seeds(3))


def given(defense: Wrap, rows: int = 16) -> Batch | Tensor:
    return batch(rows, labelled=False) if defense.place == "bottom" else batch(2 * rows).numeric.reshape(rows, DIM)


class TestWrap:
    pytestmark = each(Wrap)

    @pytest.mark.parametrize("classes", [2, 4])
    def test_keeps_inputs_and_shape_and_learns(self, defense, classes):
        module = wrapped(defense, classes)
        output = module(given(defense))
        assert output.shape == network(defense.place, classes)(given(defense)).shape
        output.backward(torch.randn(output.shape) / len(output))
        grads = [parameter.grad for parameter in module.parameters()]
        assert any(grad is not None and grad.any() for grad in grads)
        assert all(grad is None or torch.isfinite(grad).all() for grad in grads)

    def test_is_deterministic_where_nothing_is_learned(self, defense):
        module = wrapped(defense)
        with torch.no_grad():
            assert torch.equal(module(given(defense)), module(given(defense)))

    def test_draws_only_from_its_own_stream(self, defense):
        torch.manual_seed(1)
        first = wrapped(defense)(given(defense))
        torch.manual_seed(2)
        untouched = torch.get_rng_state()
        assert torch.equal(first, wrapped(defense)(given(defense)))
        assert torch.equal(torch.get_rng_state(), untouched)

    def test_goes_on_from_its_state(self, defense):
        module = wrapped(defense)
        for _ in range(2):
            module(given(defense)).sum().backward()
        state = copy.deepcopy(module.state_dict())
        restored = wrapped(defense)
        restored.load_state_dict(state)
        for parameter in module.parameters():
            parameter.grad = None
        expected, found = module(given(defense)), restored(given(defense))
        assert torch.equal(expected, found)
        for output in (expected, found):
            output.sum().backward()
        for ours, theirs in zip(module.parameters(), restored.parameters(), strict=True):
            assert (ours.grad is None) == (theirs.grad is None)
            assert ours.grad is None or torch.equal(ours.grad, theirs.grad)
