"""What was on the wire, as one side saw it: the adversary's view."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from vfl.types import Envelope, Kind, PartyId


@dataclass(frozen=True, slots=True)
class Hints:
    """Labelled rows the threat model grants: `(k,)` handles and their `(k,)` classes. Hinted rows are never scored."""

    rows: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    labels: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))


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


@dataclass(frozen=True, slots=True)
class AdversaryView:
    """All that the parties in `parties` hold together after a run, as an attack sees it.

    `sent` and `received` are their envelopes in step order; received bodies are those *after* the sender's defenses.
    Gradients are per sample and scaled by 1/rows where `loss_reduction` is `mean`. The view holds no label that
    `hints` does not grant, no seed, no grid and no party.
    """

    parties: tuple[PartyId, ...]
    classes: int
    sent: tuple[Envelope, ...]
    received: tuple[Envelope, ...]
    hints: Hints = field(default_factory=Hints)
    loss_reduction: Literal["mean", "sum"] = "mean"

    def gradients(self) -> Pooled:
        """Return the received cut-layer gradients, `(n, dim)`; colluding parties' gradients are joined side by side."""
        return pool(self.received, Kind.GRADIENT)

    def embeddings(self) -> Pooled:
        """Return the sent embeddings, `(n, dim)`, of training and evaluation rounds alike."""
        return pool(self.sent, Kind.EMBEDDING)


def pool(envelopes: Iterable[Envelope], kind: Kind) -> Pooled:
    """Lay the envelopes of a kind end to end in step order; those of one step stand side by side, row by row."""
    by_step: dict[int, list[Envelope]] = {}
    for envelope in envelopes:
        if envelope.kind == kind:
            by_step.setdefault(envelope.step, []).append(envelope)
    if not by_step:
        empty = torch.empty(0, dtype=torch.int64)
        return Pooled(empty, empty, torch.empty(0, 0))
    groups = [by_step[step] for step in sorted(by_step)]
    rows = [group[0].rows for group in groups]
    steps = [torch.full_like(group[0].rows, group[0].step) for group in groups]
    bodies = [torch.cat([envelope.body for envelope in group], dim=1) for group in groups]
    return Pooled(torch.cat(steps), torch.cat(rows), torch.cat(bodies))
