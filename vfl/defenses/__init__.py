"""Defenses: one file each. A defense says where it acts by which method it has.

`apply` acts on what is sent, `inspect` on what is received, `transform` on training labels, `penalty` on the loss and
`wrap` on a network.

Several hooks on one defense are allowed: an auto-encoder of labels transforms them and wraps the top that is to be
decoded. Every defense states `side` and `binary_only`; nothing here knows a method, a party or a grid.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from vfl.seeds import Seeds
from vfl.types import Batch, Envelope, Kind, PartyId, Role

State = dict[str, Tensor]
"""What a defense carries from step to step: tensors by name, so that a checkpoint can hold it."""

Counter = Mapping[str, object]
"""The spec of an attack that knows a defense. A defense lists those against it in `counters`; an entry of a run's
attacks that is called `adaptive` stands for all that its defenses list."""


@dataclass(frozen=True, slots=True)
class SendContext:
    """What a defense may know when it acts: its sender's own knowledge and nothing else.

    `generator` is this defense's own stream at this step. `labels` are the sender's `(rows,)` int64 labels of the
    rows in the body, `None` at a publisher; where a defense of the labels is mounted too, they are those it made.
    `classes` is the number of label classes. `rows` are the `(rows,)` handles of the body; gradients are of a mean
    loss, with its factor 1/rows. `by_class` gives what an undefended body would be if every row were of one class,
    `(classes, rows, dim)`; `None` where the method has no such gradients. `learning` says whether the round trains; if
    not, rows are validated, tested or served.
    """

    step: int
    generator: torch.Generator
    labels: Tensor | None
    classes: int
    rows: Tensor | None = None
    by_class: Callable[[], Tensor] | None = None
    learning: bool = True


@dataclass(frozen=True, slots=True)
class LabelContext:
    """What a defense of the labels may know: the label owner's own streams and columns.

    `seeds` is the defense's own scope, `epoch` the epoch that the labels are made for (0 where they are made once).
    `teach(labels, rows)` trains the label owner's own network, on its own columns alone, on the `(m,)` places `rows`
    among the training rows with `(m,)` or `(m, classes)` labels, and returns its `(n, classes)` probabilities of all
    training rows.
    """

    seeds: Seeds
    classes: int
    epoch: int
    teach: Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class PenaltyContext:
    """What a penalty may know: the step, its own stream, and the party's own batch (with labels if it owns them)."""

    step: int
    generator: torch.Generator
    batch: Batch
    classes: int


@dataclass(frozen=True, slots=True)
class ReceiveContext:
    """What a defense may know of a message that reached its party: the receiver's own knowledge and nothing else.

    `envelope` is the message as it came, `learning` whether its round trains (else rows are validated or tested).
    `batch` holds the receiver's own columns of the same rows, with labels where it owns them, `None` where it does not
    hold all of them. `beside` are the bodies of the same kind and rows that others sent in this round, by sender, and
    `sent` what the receiver sent this sender about these rows before, `None` where it sent nothing. `known` are rows of
    the sender's columns, in training, that the threat model grants a receiver that attacks; a defense has `None`.
    """

    envelope: Envelope
    learning: bool
    generator: torch.Generator
    classes: int
    batch: Batch | None = None
    beside: Mapping[PartyId, Tensor] = field(default_factory=dict[PartyId, Tensor])
    sent: Tensor | None = None
    known: Batch | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a defense makes of a message of `(rows, dim)`.

    `suspicion` `(rows,)` is greater where a row is likelier to have been tampered with, `flagged` `(rows,)` says which
    rows are taken to be, and `repaired` `(rows, dim)` is what would be put in the place of those.
    """

    suspicion: Tensor
    flagged: Tensor
    repaired: Tensor


Act = Literal["report", "repair", "refuse"]
"""What follows from a flagged row: it is counted, replaced as well, or the run is stopped."""


class Hook(Protocol):
    """What every defense states: the role it is mounted at, and whether it is undefined above two classes."""

    @property
    def side(self) -> Role:
        """The role whose knowledge it needs."""
        ...

    @property
    def binary_only(self) -> bool:
        """Whether it is undefined for more than two classes."""
        ...


@runtime_checkable
class Defense(Hook, Protocol):
    """A frozen dataclass of options with a pure `apply`. The body it gets must not be changed in place.

    `kinds` are the envelope kinds it acts on (others pass untouched).
    """

    @property
    def kinds(self) -> frozenset[Kind]:
        """The kinds of envelope it acts on."""
        ...

    def init(self) -> State:
        """Return the state before the first step."""
        ...

    def apply(self, body: Tensor, state: State, ctx: SendContext) -> tuple[Tensor, State]:
        """Return what is sent in place of the `(rows, dim)` body, of the same shape and dtype, and the next state."""
        ...


@runtime_checkable
class Guard(Hook, Protocol):
    """A defense that inspects what its party receives, before anything is learned from it.

    `receives` are the envelope kinds it looks at, `act` what follows where it flags a row. State is kept by sender; one
    that also has an `apply` shares it with what it sends to that party.
    """

    @property
    def receives(self) -> frozenset[Kind]:
        """The kinds of envelope it looks at."""
        ...

    @property
    def act(self) -> Act:
        """What follows from a flagged row."""
        ...

    def init(self) -> State:
        """Return the state before the first message of a sender."""
        ...

    def inspect(self, body: Tensor, state: State, ctx: ReceiveContext) -> tuple[Verdict, State]:
        """Return what to make of the `(rows, dim)` body, which must not be changed in place, and the next state."""
        ...


@runtime_checkable
class LabelTransform(Hook, Protocol):
    """A defense of the training labels themselves: everything that trains or acts on labels afterwards sees its own.

    `each_epoch` says whether the labels are made anew for every epoch, which composes, or once.
    """

    @property
    def each_epoch(self) -> bool:
        """Whether labels are made anew for every epoch."""
        ...

    def transform(self, labels: Tensor, ctx: LabelContext) -> Tensor:
        """Return what `(n,)` int64 training labels become: classes again, or `(n, classes)` weights of any sign."""
        ...


@runtime_checkable
class Penalty(Hook, Protocol):
    """A defense that adds to its party's local loss: at a publisher on its embedding, else on each one received."""

    def penalty(self, h: Tensor, ctx: PenaltyContext) -> Tensor:
        """Return a differentiable scalar of the `(rows, dim)` embedding, a mean over rows like the loss."""
        ...


@runtime_checkable
class Wrap(Hook, Protocol):
    """A defense inside a network: it wraps a party's bottom or the top when that is built.

    A wrapped module may draw and regularise while gradients are enabled; without them it is deterministic.
    """

    @property
    def place(self) -> Literal["bottom", "top"]:
        """Which network it wraps."""
        ...

    def wrap(self, module: nn.Module, seeds: Seeds) -> nn.Module:
        """Return a module of the same inputs and output shape. `seeds` is the defense's own scope.

        Raises `ConfigError` for a network it cannot wrap correctly.
        """
        ...


def hard(labels: Tensor) -> Tensor:
    """Return `(n,)` classes of `(n,)` classes or `(n, classes)` weights: the class of greatest weight."""
    return labels.argmax(dim=1) if labels.ndim == 2 else labels
