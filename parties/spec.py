"""What a party is told before it starts: references and options, never a value of anyone's data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from torch.optim import Optimizer

from parties.entry import Limits
from vfl.adam import Adam
from vfl.data.cut import Shard
from vfl.grid import Roster
from vfl.identity import Credentials
from vfl.methods import TrainOptions
from vfl.registry import build
from vfl.seeds import Seeds
from vfl.types import PartyId, Role, TableSchema
from vfl.wire import Codec

Spec = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class TrainSpec:
    """The `train` section of a run. Parties are told by the coordinator when to keep their weights; references are not.

    So `select` and `validate_every`, which say when, are for those alone: they mean what they mean in the coordinator's
    `Plan`.
    """

    epochs: int = 5
    batch_size: int = 256
    optimizer: Literal["adam", "sgd"] = "adam"
    lr: float = 1e-3
    threads: int = 1
    stale: int = 0
    several: int = 1
    select: Literal["last", "best_valid"] = "last"
    validate_every: int = 0

    def options(self) -> TrainOptions:
        """Return these options as methods use them."""
        make = partial(make_optimizer, self.optimizer, self.lr)
        return TrainOptions(self.epochs, self.batch_size, make, self.stale, self.several)


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One party's networks: its bottom and cut width, and the top (used by the advertiser alone)."""

    bottom: Spec
    top: Spec
    widths: Mapping[PartyId, int]

    def build_bottom(self, schema: TableSchema, role: Role, party: PartyId, seeds: Seeds) -> nn.Module | None:
        """Return the party's bottom model, initialised from its own stream; `None` if it has no columns."""
        if not schema.columns:
            return None
        with seeds.initialising("bottom"):
            return build("model", self.bottom).bottom(schema, role, self.widths[party])

    def build_top(self, width: int, classes: int, seeds: Seeds) -> nn.Module:
        """Return the top model, initialised from the advertiser's own stream."""
        with seeds.initialising("top"):
            return build("model", self.top).top(width, classes)


@dataclass(frozen=True, slots=True)
class Panel:
    """Rows of another party's columns that the threat model grants to an attack that acts in training.

    `rows` of them, training rows drawn on the stream that the referee grants rows by. `shard` and `encoding` are that
    party's: a simulation hands them over so that the rows can be read; a company would have bought the panel.
    """

    shard: Shard
    encoding: Mapping[str, Any]
    rows: int
    seeds: Seeds


@dataclass(frozen=True, slots=True)
class PartySpec:
    """Everything one party needs to take part in a run. Picklable; holds no data and no other party's seeds.

    `seeds` is the party's own scope, `shared` the scope that all parties hold. `folder` is where it alone writes its
    transcript and checkpoints; `None` records nothing. `record_every` 0 records nothing. `credentials` sign its
    greeting where envelopes are sealed (`channel`); with `None` nobody's greeting is checked. `alignments` is a folder
    of this data set, cut, aligner and seed: what aligning gave is kept there, for runs in this process and others that
    align alike. `panel` is what its own attacks are granted of another party while they train. `feedback` adds to a
    row what a lossy `codec` took from it before.
    """

    party: PartyId
    role: Role
    roster: Roster
    classes: int
    shard: Shard | None
    align: Spec
    method: Spec
    model: ModelSpec
    train: TrainSpec
    seeds: Seeds
    shared: Seeds
    defenses: tuple[Spec, ...] = ()
    tampers: tuple[Spec, ...] = ()
    codec: Codec = "raw"
    feedback: bool = False
    channel: bool = False
    credentials: Credentials | None = None
    limits: Limits = field(default_factory=Limits)
    record_every: int = 1
    folder: str | None = None
    alignments: str | None = None
    encoding: Mapping[str, Any] = field(default_factory=dict[str, Any])
    panel: Panel | None = None

    def path(self, *parts: str) -> Path | None:
        """Return a place in the party's own folder, or `None` where it has none."""
        return None if self.folder is None else Path(self.folder).joinpath(*parts)


def make_optimizer(name: Literal["adam", "sgd"], lr: float, parameters: Iterable[nn.Parameter]) -> Optimizer:
    """Return the optimizer of a run; fused, which changes no result and halves its time."""
    return Adam(parameters, lr) if name == "adam" else torch.optim.SGD(list(parameters), lr=lr, fused=True)
