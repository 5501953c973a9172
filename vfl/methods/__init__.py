"""Training methods: one file each. A method is its phases, its rounds of hops, and the two sides that handle them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from vfl.exchange import NOTHING, Mail, Outgoing
from vfl.impute import Imputer
from vfl.models import Bottom
from vfl.seeds import Seeds
from vfl.types import Batch, Hop, PartyId, Phase, Pool, Role, Step, TableSchema


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """The `train` section of a run, as methods use it; `stale` rounds pass before a gradient is used (0 or 1).

    `several` mini-batches share a message.
    """

    epochs: int
    batch_size: int
    make_optimizer: Callable[[Iterable[nn.Parameter]], Optimizer]
    stale: int = 0
    several: int = 1


class OwnRows(Protocol):
    """A party's own rows: aligned ones under shared handles, and its leftovers under handles of its own."""

    @property
    def counts(self) -> Mapping[Pool, int]:
        """How many rows of each pool this party holds."""
        ...

    def batch(self, step: Step) -> Batch:
        """Return this party's rows of a step."""
        ...

    def take(self, rows: Tensor) -> Batch:
        """Return the rows of some handles of its own."""
        ...

    def handles(self, pool: Pool) -> Tensor:
        """Return the `(n,)` handles of a pool in handle order."""
        ...

    def believe(self, rows: Tensor, labels: Tensor) -> None:
        """Take these classes for the labels of another party's leftover rows, for this party's own defenses."""
        ...


@dataclass(frozen=True, slots=True)
class Desk:
    """What a method's side may use at its party: its own rows, networks to build, its own random streams.

    `rows` are this party's own. `imputer(spec)` makes a member of the impute family. `bottom()` is `None` for a party
    without columns. `widths` are
    the cut widths of every party with a bottom, publishers first, in roster order. `top(width)` builds the fusing
    network (advertiser only). Networks are initialised from the party's own streams. `penalty(step, embeddings)` is
    what this party's defenses add to its loss on embeddings by party, `None` where they add nothing: a publisher gives
    its own embedding, the advertiser those it received.
    """

    party: PartyId
    role: Role
    publishers: tuple[PartyId, ...]
    classes: int
    schema: TableSchema
    widths: Mapping[PartyId, int]
    train: TrainOptions
    seeds: Seeds
    rows: OwnRows
    imputer: Callable[[Mapping[str, Any] | str], Imputer]
    bottom: Callable[[], nn.Module | None]
    top: Callable[[int], nn.Module]
    penalty: Callable[[Step, Mapping[PartyId, Tensor]], Tensor | None]

    def batch(self, step: Step) -> Batch:
        """Return this party's rows of a step."""
        return self.rows.batch(step)

    def leftover(self, step: Step) -> Batch:
        """Return the leftover rows that this party takes in a step; none where the step is over aligned rows alone."""
        if step.pool == Pool.TRAIN:
            return self.rows.take(torch.empty(0, dtype=torch.int64))
        return self.rows.batch(replace(step, pool=Pool.LEFTOVER))


Parts = Mapping[str, nn.Module | Optimizer]


class Side(Protocol):
    """One party's half of a method: handlers named by the method's hops, and parts that a checkpoint can hold.

    A handler takes `(step, mail)` and returns `Outgoing`.
    """

    @property
    def parts(self) -> Parts:
        """The modules and optimizers that make up this side's state."""
        ...


@runtime_checkable
class Remembers(Protocol):
    """A side that carries more from round to round than its parts, and has a checkpoint hold that too."""

    def loose(self) -> Mapping[str, Tensor]:
        """Return the tensors to hold."""
        ...

    def resume(self, loose: Mapping[str, Tensor]) -> None:
        """Take back what `loose` gave; parts are restored after it."""
        ...


class Method(Protocol):
    """A frozen dataclass of options. It never touches a grid, and no grid knows it."""

    @property
    def evaluate(self) -> tuple[Hop, ...]:
        """The round that scores a batch of validation or test rows and sends scores to the referee."""
        ...

    def phases(self, train: TrainOptions) -> tuple[Phase, ...]:
        """Return the phases of training in order."""
        ...

    def publisher(self, desk: Desk) -> Side:
        """Return a publisher's side."""
        ...

    def advertiser(self, desk: Desk) -> Side:
        """Return the advertiser's side."""
        ...


__all__ = [
    "NOTHING",
    "Bottom",
    "Desk",
    "Mail",
    "Method",
    "Outgoing",
    "OwnRows",
    "Parts",
    "Remembers",
    "Side",
    "TrainOptions",
]
