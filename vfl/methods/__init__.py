"""Training methods: one file each. A method is its phases, its rounds of hops, and the two sides that handle them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn
from torch.optim import Optimizer

from vfl.exchange import NOTHING, Mail, Outgoing
from vfl.models import Bottom
from vfl.seeds import Seeds
from vfl.types import Batch, Hop, PartyId, Phase, Role, Step, TableSchema


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """The `train` section of a run, as methods use it."""

    epochs: int
    batch_size: int
    make_optimizer: Callable[[Iterable[nn.Parameter]], Optimizer]


@dataclass(frozen=True, slots=True)
class Desk:
    """What a method's side may use at its party: its own rows, networks to build, its own random streams.

    `batch(step)` returns this party's rows of a step. `bottom()` is `None` for a party without columns. `widths` are
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
    batch: Callable[[Step], Batch]
    bottom: Callable[[], nn.Module | None]
    top: Callable[[int], nn.Module]
    penalty: Callable[[Step, Mapping[PartyId, Tensor]], Tensor | None]


Parts = Mapping[str, nn.Module | Optimizer]


class Side(Protocol):
    """One party's half of a method: handlers named by the method's hops, and parts that a checkpoint can hold.

    A handler takes `(step, mail)` and returns `Outgoing`.
    """

    @property
    def parts(self) -> Parts:
        """The modules and optimizers that make up this side's state."""
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


__all__ = ["NOTHING", "Bottom", "Desk", "Mail", "Method", "Outgoing", "Parts", "Side", "TrainOptions"]
