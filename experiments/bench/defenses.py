"""What each defense costs a batch of 1024 rows of 64 coordinates, in milliseconds, beside what it replaces."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from experiments.bench.figures import Figure
from parties.teacher import Teacher
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
)
from vfl.losses import classification_loss
from vfl.methods import TrainOptions
from vfl.models.mlp import Mlp
from vfl.registry import build, names
from vfl.seeds import Seeds
from vfl.types import Batch, Envelope, Role, TableSchema

ROWS, DIM, COLUMNS = 1024, 64, 20
LABELLED_ROWS = 100_000
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "clipped_gaussian": [{}, {"on": "gradient"}],
    "dcor": [{}, {"protects": "labels"}],
    "fedpass": [{}, {"at": "top"}],
    "grad_compression": [{}, {"residual": "row"}],
    "marvell": [{}, {"sum_kl": 0.16, "s": 0.25}],
    "mid": [{}, {"at": "top"}],
}
"""Option sets beyond the default whose cost may differ."""

WITH_NETWORKS = ("cae", "dcae", "kdk", "lp_2st")
"""Defenses of labels that train a network, once: a codec, or one that the label owner's own columns teach."""


def measure(repeats: int) -> Iterator[Figure]:
    """Yield one figure a defense and hook: least milliseconds, for labels those of 100,000 rows once.

    The least of the repeats is what the work costs where nothing else runs. A wrapped network's reference is the bare
    one's forward and backward; other hooks add to nothing.
    """
    for name in names("defense"):
        for options in OPTIONS.get(name, [{}]):
            member = build("defense", {"name": name, **options})
            told = "/".join([name, *(str(value) for value in options.values())])
            for hook, work, bare in _hooks(name, member):
                reference = _least_ms(bare, repeats) if bare else None
                value = _least_ms(work, repeats)
                yield Figure(f"{told}/{hook}", value, "ms", reference, reference and reference / value, repeats)


def table(figures: Sequence[Figure]) -> list[str]:
    """Return the figures as lines of a Markdown table, with what each adds to its reference."""
    lines = ["| defense and hook | ms | without it, ms | added, ms |", "| --- | ---: | ---: | ---: |"]
    for figure in figures:
        bare = figure.reference or 0.0
        without = "" if figure.reference is None else f"{bare:.2f}"
        lines.append(f"| {figure.name} | {figure.value:.2f} | {without} | {round(figure.value - bare, 2) + 0.0:.2f} |")
    return lines


Work = Callable[[], object]


def _hooks(name: str, member: Any) -> Iterator[tuple[str, Work, Work | None]]:  # noqa: ANN401 - any defense
    generator, batch = Seeds(0).torch("bench"), _batch()
    body = torch.randn((ROWS, DIM), generator=generator) / ROWS
    if isinstance(member, Defense):
        yield "send", _sending(member, body, batch), None
    if isinstance(member, Guard):
        yield "inspect", _inspecting(member, body, batch), None
    if isinstance(member, Penalty):
        yield "penalty", _penalising(member, body, batch), None
    if isinstance(member, LabelTransform):
        labels = torch.randint(2, (LABELLED_ROWS,), generator=generator)
        scores = torch.full((LABELLED_ROWS, 2), 0.5)
        ctx = LabelContext(Seeds(0), 2, 0, lambda given, rows: scores)
        yield "labels", lambda: member.transform(labels, ctx), None
        if name in WITH_NETWORKS:
            yield "labels and networks", _with_networks(member, labels), None
    if isinstance(member, Wrap):
        given = batch if member.place == "bottom" else body
        yield (
            f"wrap {member.place}",
            _training(member.wrap(_network(member), Seeds(0)), given),
            _training(_network(member), given),
        )


def _with_networks(member: LabelTransform, labels: Tensor) -> Work:
    """Return the making of all labels with the networks that it takes: no call finds those of an earlier one.

    A teacher has one hidden layer of 64 and 20 columns, and is trained for an epoch of batches of 1024.
    """
    numeric = torch.randn((LABELLED_ROWS, COLUMNS), generator=Seeds(0).torch("bench", "teacher"))
    schema = TableSchema(tuple(f"x{place}" for place in range(COLUMNS)))
    options = TrainOptions(1, ROWS, lambda parameters: torch.optim.Adam(list(parameters)))
    calls = itertools.count()

    def build_teacher() -> nn.Module:
        with Seeds(0).initialising("bench"):
            return nn.Sequential(Mlp((64,)).bottom(schema, Role.ADVERTISER, DIM), Mlp(()).top(DIM, 2))

    def make() -> None:
        seeds = Seeds(0).scope("bench", type(member).__name__, next(calls))
        none = torch.empty((LABELLED_ROWS, 0), dtype=torch.int64)
        teacher = Teacher(numeric, none, 2, build_teacher, options, seeds)
        member.transform(labels, LabelContext(seeds, 2, 0, teacher.teach))

    return make


def _sending(member: Defense, body: Tensor, batch: Batch) -> Work:
    state = member.init()
    generator = Seeds(0).torch("bench", "send")
    with Seeds(0).initialising("bench"):
        top = Mlp((64,)).top(DIM, 2)
    ctx = SendContext(0, generator, batch.labels, 2, rows=batch.rows, by_class=lambda: _by_class(top, body))

    def send() -> None:
        nonlocal state
        _, state = member.apply(body, state, ctx)

    return send


def _by_class(top: nn.Module, body: Tensor) -> Tensor:
    """Return what would be sent if all rows were of one class, `(2, rows, dim)`: a pass through the top for each."""
    h = body.clone().requires_grad_()
    logits = top(h)
    losses = [classification_loss(logits, torch.full((ROWS,), each)) for each in (0, 1)]
    return torch.stack([torch.autograd.grad(loss, h, retain_graph=True)[0] for loss in losses])


def _inspecting(member: Guard, body: Tensor, batch: Batch) -> Work:
    state = member.init()
    envelope = Envelope(0, min(member.receives), "sender", "receiver", batch.rows, body)
    sent = torch.randn((ROWS, DIM), generator=Seeds(0).torch("bench", "sent"))
    ctx = ReceiveContext(envelope, True, Seeds(0).torch("bench", "inspect"), 2, batch, {"other": sent}, sent)

    def inspect() -> None:
        nonlocal state
        _, state = member.inspect(body, state, ctx)

    return inspect


def _penalising(member: Penalty, body: Tensor, batch: Batch) -> Work:
    h = body.clone().requires_grad_()
    ctx = PenaltyContext(0, Seeds(0).torch("bench", "penalty"), batch, 2)
    return lambda: member.penalty(h, ctx).backward()


def _training(network: nn.Module, given: Batch | Tensor) -> Work:
    def step() -> None:
        output = network(given)
        output.backward(torch.ones_like(output) / ROWS)

    return step


def _network(member: Wrap) -> nn.Module:
    schema = TableSchema(tuple(f"x{place}" for place in range(COLUMNS)))
    with Seeds(0).initialising("bench"):
        model = Mlp((64,))
        return model.bottom(schema, Role.PUBLISHER, DIM) if member.place == "bottom" else model.top(DIM, 2)


def _batch() -> Batch:
    generator = Seeds(0).torch("bench", "batch")
    labels = (torch.rand(ROWS, generator=generator) < 0.05).long()
    numeric = torch.randn((ROWS, COLUMNS), generator=generator)
    return Batch(torch.arange(ROWS), numeric, torch.empty((ROWS, 0), dtype=torch.int64), labels)


def _least_ms(work: Work, repeats: int) -> float:
    work()
    found: list[float] = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        found.append((time.perf_counter() - began) * 1e3)
    return min(found)
