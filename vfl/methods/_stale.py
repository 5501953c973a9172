"""The two sides of split learning where gradients arrive one round late, so that nobody waits for anybody."""

from __future__ import annotations

from typing import Protocol, cast

import torch
from torch import Tensor, nn

from vfl.backward import backward
from vfl.exchange import NOTHING, Mail, Outgoing, body_about
from vfl.methods import Desk, Parts
from vfl.types import ADVERTISER, Hop, Kind, Phase, Role, Step

EMIT = Hop("emit", Role.ADVERTISER, "emit", gives=Kind.GRADIENT)
BACKWARD = Hop("backward", Role.PUBLISHER, "backward", takes=("emit",))
TRAIN = (
    EMIT,
    Hop("forward", Role.PUBLISHER, "forward", gives=Kind.EMBEDDING),
    Hop("own", Role.ADVERTISER, "own"),
    Hop("fuse", Role.ADVERTISER, "fuse", takes=("forward", "own")),
    Hop("finish", Role.ADVERTISER, "finish", takes=("fuse",)),
    BACKWARD,
)
DRAIN = (EMIT, BACKWARD)
ALL_ROWS = 1 << 40


def phases(epochs: int, batch_size: int) -> tuple[Phase, ...]:
    """Return the rounds over the aligned rows, then one that trains nothing but hands out the last gradient."""
    train = Phase("train", TRAIN, epochs=epochs, batch_size=batch_size)
    return train, Phase("drain", DRAIN, epochs=1, batch_size=ALL_ROWS, shuffle=False)


class Synchronous(Protocol):
    """The advertiser's side of the same method without delay."""

    @property
    def parts(self) -> Parts:
        """Networks and optimizer."""
        ...

    def own(self, step: Step, mail: Mail) -> Outgoing:
        """Run the own bottom model."""
        ...

    def fuse(self, step: Step, mail: Mail) -> Outgoing:
        """Run the top model forward and backward."""
        ...

    def finish(self, step: Step, mail: Mail) -> Outgoing:
        """Run the own bottom model backward and update."""
        ...

    def score(self, step: Step, mail: Mail) -> Outgoing:
        """Score evaluation rows."""
        ...


class StaleAdvertiser:
    """An advertiser who sends the gradients of a round at the start of the next; its own updates are never late."""

    def __init__(self, inner: Synchronous) -> None:
        self._inner = inner
        self.own, self.finish, self.score = inner.own, inner.finish, inner.score
        self._held = NOTHING

    @property
    def parts(self) -> Parts:
        """What the inner side has."""
        return self._inner.parts

    def emit(self, step: Step, mail: Mail) -> Outgoing:
        """Send what the round before made, nothing in the first."""
        held, self._held = self._held, NOTHING
        return held

    def fuse(self, step: Step, mail: Mail) -> Outgoing:
        """Run the top model forward and backward, and hold the gradients back."""
        made = self._inner.fuse(step, mail)
        self._held = Outgoing(made.rows, made.bodies)
        return NOTHING


class StalePublisher:
    """A publisher who sends the embedding of a round before it has had the gradient of the one before.

    The gradient goes through the weights that made its embedding, which are stashed as they were; the update goes to
    the weights as they are.
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._bottom = cast(nn.Module, desk.bottom())
        self._optimizer = desk.train.make_optimizer(self._bottom.parameters())
        self._weights = {parameter.untyped_storage().data_ptr() for parameter in self._bottom.parameters()}
        self._waiting: list[tuple[Step, Tensor, Tensor]] = []

    @property
    def parts(self) -> Parts:
        """The bottom model and its optimizer."""
        return {"bottom": self._bottom, "optimizer": self._optimizer}

    def forward(self, step: Step, mail: Mail) -> Outgoing:
        """Send the embedding of the step's rows, `(rows, width)`, and keep its graph until its gradient comes."""
        batch = self._desk.batch(step)
        with torch.autograd.graph.saved_tensors_hooks(self._stash, lambda saved: saved):
            embedding: Tensor = self._bottom(batch)
        self._waiting.append((step, batch.rows, embedding))
        return Outgoing(batch.rows, {ADVERTISER: embedding})

    def backward(self, step: Step, mail: Mail) -> Outgoing:
        """Update the bottom model with the gradient of the round before, `(rows, width)`; the first brings none."""
        if not mail:
            return NOTHING
        (envelope,) = mail.values()
        made, rows, embedding = self._waiting.pop(0)
        gradient = body_about(envelope, rows)
        self._optimizer.zero_grad()
        penalty = self._desk.penalty(made, {self._desk.party: embedding})
        if penalty is None:
            backward(embedding, gradient)
        else:
            torch.autograd.backward([embedding, penalty], [gradient, torch.ones_like(penalty)])
        self._optimizer.step()
        return NOTHING

    def embed(self, step: Step, mail: Mail) -> Outgoing:
        """Send the embedding of evaluation rows; nothing is learned from them."""
        batch = self._desk.batch(step)
        with torch.no_grad():
            return Outgoing(batch.rows, {ADVERTISER: self._bottom(batch)})

    def _stash(self, saved: Tensor) -> Tensor:
        mutable = saved.untyped_storage().data_ptr() in self._weights
        return saved.detach().clone() if mutable else saved
