"""The two sides of split learning where one message carries several mini-batches: for links that are slow to start."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch

from vfl.exchange import NOTHING, Mail, Outgoing
from vfl.methods import Desk, Parts
from vfl.methods._stale import StalePublisher, Synchronous
from vfl.types import ADVERTISER, Envelope, Hop, Kind, Phase, Role, Step

TRAIN = (
    Hop("forward", Role.PUBLISHER, "forward", gives=Kind.EMBEDDING),
    Hop("fuse", Role.ADVERTISER, "fuse", takes=("forward",), gives=Kind.GRADIENT),
    Hop("backward", Role.PUBLISHER, "backward", takes=("fuse",)),
)


def phases(epochs: int, batch_size: int, several: int) -> tuple[Phase, ...]:
    """Return the one phase: each round goes over the rows of `several` mini-batches."""
    return (Phase("train", TRAIN, epochs=epochs, batch_size=several * batch_size),)


def mini_batches(step: Step, batch_size: int) -> Iterator[tuple[Step, slice]]:
    """Yield the mini-batches of a round as steps of their own, and where their rows are among the round's.

    They are as few of at most `batch_size` rows as hold the round, equal to within one row.
    """
    count = -(-step.size // batch_size)
    for place in range(count):
        start, stop = (step.size * edge // count for edge in (place, place + 1))
        yield replace(step, start=step.start + start, size=stop - start), slice(start, stop)


class SeveralAdvertiser:
    """An advertiser who takes the mini-batches of a message in turn, and updates after each of them."""

    def __init__(self, inner: Synchronous, batch_size: int) -> None:
        self._inner, self._batch_size = inner, batch_size
        self.score = inner.score

    @property
    def parts(self) -> Parts:
        """What the inner side has."""
        return self._inner.parts

    def fuse(self, step: Step, mail: Mail) -> Outgoing:
        """Train on every mini-batch, and send the gradients of all of them; reports the mean loss."""
        made: list[Outgoing] = []
        loss = 0.0
        for small, span in mini_batches(step, self._batch_size):
            self._inner.own(small, {})
            made.append(self._inner.fuse(small, {party: _part(each, span) for party, each in mail.items()}))
            loss += self._inner.finish(small, {}).report["loss"] * small.size
        bodies = {party: torch.cat([each.bodies[party] for each in made]) for party in made[0].bodies}
        rows = torch.cat([each.rows for each in made if isinstance(each.rows, torch.Tensor)])
        return Outgoing(rows, bodies, report={"loss": loss / step.size})


class SeveralPublisher:
    """A publisher who sends the embeddings of several mini-batches before it has had a gradient of the first.

    The gradient of each goes through the weights that made its embedding; the updates come one after the other.
    """

    def __init__(self, desk: Desk) -> None:
        self._inner, self._batch_size = StalePublisher(desk), desk.train.batch_size
        self.embed = self._inner.embed

    @property
    def parts(self) -> Parts:
        """The bottom model and its optimizer."""
        return self._inner.parts

    def forward(self, step: Step, mail: Mail) -> Outgoing:
        """Send the embeddings of all mini-batches, `(rows, width)`, and keep their graphs."""
        made = [self._inner.forward(small, {}) for small, _ in mini_batches(step, self._batch_size)]
        rows = torch.cat([each.rows for each in made if isinstance(each.rows, torch.Tensor)])
        return Outgoing(rows, {ADVERTISER: torch.cat([each.bodies[ADVERTISER].detach() for each in made])})

    def backward(self, step: Step, mail: Mail) -> Outgoing:
        """Update the bottom model with the gradient of each mini-batch in turn, `(rows, width)` of all of them."""
        ((party, gradient),) = mail.items()
        for small, span in mini_batches(step, self._batch_size):
            self._inner.backward(small, {party: _part(gradient, span)})
        return NOTHING


def _part(envelope: Envelope, span: slice) -> Envelope:
    return replace(envelope, rows=envelope.rows[span], body=envelope.body[span])
