"""Attacks: one file each. An observer with an opinion: a view in, a guess out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from vfl.defenses import ReceiveContext, SendContext, State, Verdict
from vfl.transcript import AdversaryView
from vfl.types import Kind, PartyId

__all__ = [
    "Attack",
    "Guess",
    "Needs",
    "ReceiveContext",
    "SendContext",
    "State",
    "Steers",
    "Target",
    "Verdict",
]


@dataclass(frozen=True, slots=True)
class Needs:
    """What an attack must be granted, and what of the adversary's own it reads; it is handed that and no more.

    `received` and `sent` are envelope kinds. `own_features` and `own_models` are what the adversary holds anyway.
    The threat model must grant the rest: `labelled_rows` rows of known label, the class `prior`, the `scores` of test
    rows returned to the adversary, `known_rows` training rows whose features at other parties it knows, and those
    parties' `victim_models`. `binary_only` attacks are undefined above two classes. An `active` attack tampers with the
    run itself, so it is named in the run's own configuration and cannot be tried on a run recorded without it.
    """

    received: frozenset[Kind] = frozenset()
    sent: frozenset[Kind] = frozenset()
    labelled_rows: int = 0
    binary_only: bool = False
    own_features: bool = False
    own_models: bool = False
    prior: bool = False
    scores: bool = False
    known_rows: int = 0
    victim_models: bool = False
    active: bool = False


Target = Literal["labels", "proportion", "features", "attribute", "membership", "outcome", "backdoor"]


@dataclass(frozen=True, slots=True)
class Guess:
    """An attack's opinion, one entry for each row it scored at each step; `steps` and `rows` are `(n,)` int64.

    An attack that gives one opinion on a row whatever the step leaves all `steps` 0. By `target`, `scores` are:

    * `labels`: `(n,)`, greater where class 1 is likelier, or `(n, classes)`, greatest at the likeliest class;
    * `proportion`: `(n,)`, the guessed share of class 1 in the entry's batch, the same for all of its rows;
    * `features`: `(n, columns)`, the encoded values of `columns` at `party` (a category by its id);
    * `attribute`: `(n, ids)`, greatest at the likeliest id of the one categorical column in `columns` at `party`;
    * `membership`: `(n,)`, greater where the row is likelier to have been trained on;
    * `outcome`: `(n,)`, 1 where the attack tampered with the row and 0 where it did not: the joint model's answer to it
      is what is marked;
    * `backdoor`: the same, where the attack wants tampered rows to be given the class of the row `reference`.

    `controls` are scores of the same shape by the same head from something that holds less (a random network, the
    adversary's own columns alone): what is no better than its control is no leakage of the wire.
    """

    target: Target
    steps: Tensor
    rows: Tensor
    scores: Tensor
    party: PartyId = ""
    columns: tuple[str, ...] = ()
    controls: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])
    reference: int = -1


@runtime_checkable
class Steers(Protocol):
    """What an active attack may do to its own party's training: it gets the optimizer before the first step.

    One that tampers with what its party sends has the methods of a `vfl.defenses.Defense`, with what it gets those of a
    `Guard`, with its network those of a `Wrap`; it is mounted as one, behind the party's real defenses.
    """

    def steer(self, optimizer: torch.optim.Optimizer) -> None:
        """Change how the optimizer steps; what it carries must be in `optimizer.state`, where checkpoints find it."""
        ...


class Attack(Protocol):
    """A frozen dataclass of options. `infer` sees the view and its own random stream, and nothing else."""

    @property
    def needs(self) -> Needs:
        """What it must be granted; a run whose threat model grants less is refused before it starts."""
        ...

    def infer(self, view: AdversaryView, rng: torch.Generator) -> Guess:
        """Return the attack's guess."""
        ...
