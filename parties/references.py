"""What a run is compared with: the same networks trained in one place, with and without the partners' columns.

Only the referee calls this: it needs every party's columns and the labels at once. Networks, initial weights, batch
order and optimizer are those of the run, so central training is what a run without defenses reproduces bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor, nn

from parties.rows import Rows
from parties.settle import Settled, leftover
from parties.spec import PartySpec, TrainSpec
from parties.table import encode
from vfl.align import Alignment
from vfl.coordinator import evaluation_steps, phase_steps, validation_due
from vfl.data.encode import EncodeOptions
from vfl.data.keys import places
from vfl.data.shard import load_features
from vfl.losses import classification_loss, probabilities
from vfl.sealed import Sealed
from vfl.types import Batch, Phase, Pool, Role, Step


@dataclass(frozen=True, slots=True)
class Member:
    """One party's rows and bottom model inside a reference; `bottom` is `None` for a party without columns."""

    rows: Rows
    bottom: nn.Module | None
    width: int


def members(specs: Sequence[PartySpec], found: Settled, labels: Tensor) -> list[Member]:
    """Load every party's columns for the aligned rows; `labels` are `(n,)` by handle, for the advertiser's member."""
    return [_member(spec, found, labels if spec.role == Role.ADVERTISER else None) for spec in specs]


def central(specs: Sequence[PartySpec], found: Settled, labels: Tensor) -> Tensor:
    """Train all parties' networks as one on the aligned rows; returns `(test, classes)` probabilities by handle."""
    return train(members(specs, found, labels), _advertiser(specs), found.sizes)


def alone(spec: PartySpec, found: Settled, labels: Tensor) -> Tensor:
    """Train the advertiser's own network on all labelled rows it holds; returns `(test, classes)` probabilities.

    `found` and `labels` count its own leftover rows among the training rows: they cost the advertiser nothing,
    so a partner must be worth more than they are. Without columns of its own it predicts the training base rate.
    """
    member, sizes = _member(spec, found, labels), found.sizes
    if member.bottom is None:
        rates = torch.bincount(labels[: sizes[0]], minlength=spec.classes) / sizes[0]
        return rates.expand(sizes[2], spec.classes).clone()
    return train([member], spec, sizes)


def train(found: Sequence[Member], advertiser: PartySpec, sizes: tuple[int, int, int]) -> Tensor:
    """Train one network of several bottoms and a top by plain mini-batch SGD, and return test probabilities.

    Where the run tests the weights with the least loss on validation rows, so does this, and looks as often.
    """
    present = [member for member in found if member.bottom is not None]
    top = advertiser.model.build_top(sum(member.width for member in present), advertiser.classes, advertiser.seeds)
    modules = nn.ModuleList([*(cast(nn.Module, member.bottom) for member in present), top])
    options = advertiser.train.options()
    optimizer = options.make_optimizer(modules.parameters())
    labelled = next(member.rows for member in found if member.rows.labelled)
    phase = Phase("train", (), epochs=options.epochs, batch_size=options.batch_size)
    steps = list(phase_steps(phase, sizes[0]))
    chosen = _Chosen(modules)
    for done, (step, ends_epoch) in enumerate(steps, start=1):
        loss = classification_loss(_logits(present, top, step), cast(Tensor, labelled.batch(step).labels))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if sizes[1] and _looks(advertiser.train, done, ends_epoch, last=done == len(steps)):
            chosen.look(_valid_loss(present, top, labelled, sizes[1]))
    chosen.recall()
    with torch.no_grad():
        tested = evaluation_steps("test", Pool.TEST, sizes[2])
        return torch.cat([probabilities(_logits(present, top, step)) for step in tested])


@dataclass(slots=True)
class _Chosen:
    """The weights of the least loss that was looked at, if any was."""

    modules: nn.Module
    least: float = math.inf
    weights: dict[str, Tensor] = field(default_factory=dict[str, Tensor])

    def look(self, loss: float) -> None:
        if loss < self.least:
            self.least = loss
            self.weights = {name: value.clone() for name, value in self.modules.state_dict().items()}

    def recall(self) -> None:
        if self.weights:
            self.modules.load_state_dict(self.weights)


def _looks(train: TrainSpec, done: int, ends_epoch: bool, last: bool) -> bool:
    """Whether the run would have chosen by a validation after so many mini-batches; it counts them in rounds."""
    every = train.validate_every * train.several
    return train.select == "best_valid" and validation_due(every, done, last=last, ends_epoch=ends_epoch)


def _valid_loss(present: Sequence[Member], top: nn.Module, labelled: Rows, rows: int) -> float:
    with torch.no_grad():
        sums = [
            classification_loss(_logits(present, top, step), cast(Tensor, labelled.batch(step).labels)).item()
            * step.size
            for step in evaluation_steps("valid", Pool.VALID, rows)
        ]
    return sum(sums) / rows


def _logits(present: Sequence[Member], top: nn.Module, step: Step) -> Tensor:
    def embed(member: Member) -> Tensor:
        batch: Batch = member.rows.batch(step)
        return cast(nn.Module, member.bottom)(batch)

    return top(torch.cat([embed(member) for member in present], dim=1))


def _member(spec: PartySpec, found: Settled, labels: Tensor | None) -> Member:
    if spec.shard is None:
        raise ValueError(f"{spec.party} has no shard")
    local = load_features(spec.shard)
    ids = local.ids
    order = torch.from_numpy(places(ids, found.ids.numpy()))
    only = leftover(spec.shard, torch.from_numpy(ids), found)
    training = torch.cat([order[: found.sizes[0]], only]).sort().values
    encoder, table = encode(local, training, EncodeOptions(**spec.encoding))
    alignment = Alignment(order, *found.sizes, only=only)
    sealed = None if labels is None else Sealed(_by_local_row(labels, order, local.rows))
    rows = Rows(table, alignment, sealed, spec.shared)
    bottom = spec.model.build_bottom(encoder.schema, spec.role, spec.party, spec.seeds)
    return Member(rows, bottom, 0 if bottom is None else spec.model.widths[spec.party])


def _by_local_row(labels: Tensor, order: Tensor, rows: int) -> Tensor:
    placed = torch.full((rows,), -1, dtype=torch.int64)
    placed[order] = labels
    return placed


def _advertiser(specs: Sequence[PartySpec]) -> PartySpec:
    return next(spec for spec in specs if spec.role == Role.ADVERTISER)
