"""What was on the wire, as one side saw it: the adversary's view."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from vfl.types import Batch, Envelope, Kind, PartyId, TableSchema


@dataclass(frozen=True, slots=True)
class Holding:
    """Rows of one party's encoded table, without labels, and its networks as training left them, where known.

    `bottom` maps a `Batch` to the `(rows, width)` embedding, `fresh` is the same network at random weights of the
    attack's own stream (a control: what the architecture alone gives), `top` maps joined embeddings to logits.
    """

    batch: Batch
    schema: TableSchema
    bottom: nn.Module | None = None
    fresh: nn.Module | None = None
    top: nn.Module | None = None


@dataclass(frozen=True, slots=True)
class Hints:
    """All that the threat model grants beyond the adversary's own view.

    `rows` `(k,)` and `labels` `(k,)` are handles of training rows and their classes: hinted rows are never scored.
    `prior` is the `(classes,)` share of each class among the training rows. `score_rows` `(m,)` and `scores`
    `(m, classes)` are the joint model's scores of test rows, where it returns them. `victims` holds, by party, what
    the adversary knows of others: the features of some training rows, and their networks.
    """

    rows: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    labels: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    prior: Tensor | None = None
    score_rows: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    scores: Tensor = field(default_factory=lambda: torch.empty(0, 0))
    victims: Mapping[PartyId, Holding] = field(default_factory=dict[PartyId, Holding])


@dataclass(frozen=True, slots=True)
class Pooled:
    """Envelopes of one kind laid end to end: `(n,)` steps, `(n,)` row handles, `(n, dim)` body."""

    steps: Tensor
    rows: Tensor
    body: Tensor

    def batches(self) -> list[Pooled]:
        """Return the entries of each step apart, in step order."""
        _, counts = torch.unique_consecutive(self.steps, return_counts=True)
        sizes = counts.tolist()
        parts = zip(self.steps.split(sizes), self.rows.split(sizes), self.body.split(sizes), strict=True)
        return [Pooled(steps, rows, body) for steps, rows, body in parts]

    def unscaled(self) -> Pooled:
        """Return the entries times the size of their batch: gradients of a mean loss become those of each row's own."""
        _, place, counts = torch.unique_consecutive(self.steps, return_inverse=True, return_counts=True)
        return Pooled(self.steps, self.rows, self.body * counts[place][:, None])

    def below(self, rows: int) -> Pooled:
        """Return the entries of handles below `rows`: of aligned rows, where that is how many there are."""
        kept = self.rows < rows
        return Pooled(self.steps[kept], self.rows[kept], self.body[kept])

    def last(self) -> Pooled:
        """Return the last entry of each row, ordered by row: one each, as late in training as it was seen."""
        order = torch.argsort(self.rows, stable=True)
        rows, counts = torch.unique_consecutive(self.rows[order], return_counts=True)
        keep = order[counts.cumsum(0) - 1]
        return Pooled(self.steps[keep], rows, self.body[keep])


@dataclass(frozen=True, slots=True)
class AdversaryView:
    """All that the parties in `parties` hold together after a run, as an attack sees it.

    `sent` and `received` are their envelopes in step order; received bodies are those *after* the sender's defenses.
    Gradients are per sample and scaled by 1/rows where `loss_reduction` is `mean`. `own` holds, by party of the
    adversary, its features of all aligned rows and its networks, as far as the attack asked for them. The view holds
    no label that `hints` does not grant, no seed, no grid and no party.
    """

    parties: tuple[PartyId, ...]
    classes: int
    sent: tuple[Envelope, ...]
    received: tuple[Envelope, ...]
    hints: Hints = field(default_factory=Hints)
    loss_reduction: Literal["mean", "sum"] = "mean"
    own: Mapping[PartyId, Holding] = field(default_factory=dict[PartyId, Holding])

    def gradients(self) -> Pooled:
        """Return the received cut-layer gradients, `(n, dim)`; colluding parties' gradients are joined side by side."""
        return pool(self.received, Kind.GRADIENT)

    def embeddings(self) -> Pooled:
        """Return the sent embeddings, `(n, dim)`, of training and evaluation rounds alike."""
        return pool(self.sent, Kind.EMBEDDING)

    def incoming(self, party: PartyId) -> Pooled:
        """Return the embeddings that an adversary at the advertiser received from one publisher, `(n, dim)`."""
        return pool((envelope for envelope in self.received if envelope.src == party), Kind.EMBEDDING)


def pool(envelopes: Iterable[Envelope], kind: Kind) -> Pooled:
    """Lay the envelopes of a kind end to end in step order; those of one step stand side by side, row by row.

    Parties that collude may have been about different rows in a step, or not have taken part in it: what all of them
    were about is laid out, in the order of the first, so that every body has the same width.
    """
    by_step: dict[int, list[Envelope]] = {}
    for envelope in envelopes:
        if envelope.kind == kind:
            by_step.setdefault(envelope.step, []).append(envelope)
    if not by_step:
        empty = torch.empty(0, dtype=torch.int64)
        return Pooled(empty, empty, torch.empty(0, 0))
    widest = max(len(group) for group in by_step.values())
    groups = [by_step[step] for step in sorted(by_step) if len(by_step[step]) == widest]
    rows = [_shared([envelope.rows for envelope in group]) for group in groups]
    steps = [torch.full_like(each, group[0].step) for each, group in zip(rows, groups, strict=True)]
    bodies = [
        torch.cat([_of(envelope, each) for envelope in group], dim=1) for each, group in zip(rows, groups, strict=True)
    ]
    return Pooled(torch.cat(steps), torch.cat(rows), torch.cat(bodies))


def _shared(rows: list[Tensor]) -> Tensor:
    found = rows[0]
    for other in rows[1:]:
        found = found if torch.equal(found, other) else found[torch.isin(found, other)]
    return found


def _of(envelope: Envelope, rows: Tensor) -> Tensor:
    if torch.equal(envelope.rows, rows):
        return envelope.body
    order = envelope.rows.argsort()
    return envelope.body[order[torch.searchsorted(envelope.rows[order], rows)]]
