"""A party's stack of defenses, sorted by the hook each has. Streams are named by a defense's place in the stack."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

from torch import Tensor, nn
from torch.optim import Optimizer

from parties.outbox import Mounted
from parties.spec import Spec
from parties.teacher import Teach
from vfl.attacks import Steers
from vfl.defenses import Defense, Guard, Hook, LabelContext, LabelTransform, Penalty, PenaltyContext, Wrap, hard
from vfl.methods import TrainOptions
from vfl.registry import build
from vfl.seeds import Seeds
from vfl.types import Batch, PartyId, Step

TAMPERS_BY = (Defense, Guard, Wrap)
"""Hooks by which an active attack tampers: with what its party sends, with what it gets, with its network."""


@dataclass(frozen=True, slots=True)
class Mounts:
    """The defenses of one party, and the party's own seeds."""

    members: tuple[Hook, ...]
    seeds: Seeds
    classes: int

    @property
    def mounted(self) -> list[Mounted]:
        """All of them, as an outbox holds them."""
        return [Mounted(member) for member in self.members]

    @property
    def changes_labels(self) -> bool:
        """Whether any defense makes labels of its own."""
        return any(isinstance(member, LabelTransform) for member in self.members)

    @property
    def each_epoch(self) -> bool:
        """Whether any defense makes labels anew for every epoch."""
        return any(isinstance(member, LabelTransform) and member.each_epoch for member in self.members)

    def relabel(self, labels: Tensor, epoch: int, teach: Teach) -> Tensor:
        """Return what the `(n,)` training labels become in an epoch, through every defense of labels in order."""
        found = labels
        for place, member in enumerate(self.members):
            if isinstance(member, LabelTransform):
                at = epoch if member.each_epoch else 0
                found = member.transform(hard(found), LabelContext(self._scope(place), self.classes, at, teach))
        return found

    def penalty(self, step: Step, batch: Batch, embeddings: Mapping[PartyId, Tensor]) -> Tensor | None:
        """Return the sum of all penalties on all embeddings, or nothing where no defense has one."""
        found: Tensor | None = None
        for place, member in enumerate(self.members):
            if not isinstance(member, Penalty):
                continue
            for party, h in embeddings.items():
                generator = self._scope(place).torch("penalty", party, step.index)
                term = member.penalty(h, PenaltyContext(step.index, generator, batch, self.classes))
                found = term if found is None else found + term
        return found

    def wrap(self, name: str, module: nn.Module) -> nn.Module:
        """Return the bottom or top (by `name`) inside every defense that wraps it."""
        for place, member in enumerate(self.members):
            if isinstance(member, Wrap) and member.place == name:
                scope = self._scope(place)
                with scope.initialising(name):
                    module = member.wrap(module, scope)
        return module

    def _scope(self, place: int) -> Seeds:
        return self.seeds.scope("defense", place)


def mount(specs: Sequence[Spec], seeds: Seeds, classes: int, tampers: Sequence[Spec] = ()) -> Mounts:
    """Build a party's stack; behind its defenses come the active attacks of its own that have a defense's hooks."""
    tampering = [member for spec in tampers if isinstance(member := build("attack", spec), TAMPERS_BY)]
    members = (*(cast(Hook, build("defense", spec)) for spec in specs), *tampering)
    return Mounts(members, seeds, classes)


def steered(options: TrainOptions, tampers: Sequence[Spec]) -> TrainOptions:
    """Return how a party trains whose active attacks get hold of its optimizer."""
    members = [member for spec in tampers if isinstance(member := build("attack", spec), Steers)]

    def make(parameters: Iterable[nn.Parameter]) -> Optimizer:
        optimizer = options.make_optimizer(parameters)
        for member in members:
            member.steer(optimizer)
        return optimizer

    return replace(options, make_optimizer=make) if members else options
