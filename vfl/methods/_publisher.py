"""What a publisher does in methods that also train on rows it does not share with everyone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from vfl.exchange import NOTHING, Mail, Outgoing, body_about
from vfl.methods import Desk, Parts
from vfl.types import ADVERTISER, Pool, Step


class ChosenRowsPublisher:
    """Bottom model of a publisher that trains on aligned rows and on those of its own that the advertiser chose.

    It learns of each of its own rows whether the advertiser, from round to round, trains on it. With `everything` all
    of its rows count as chosen from the beginning.
    """

    def __init__(self, desk: Desk, everything: bool = False) -> None:
        self._desk = desk
        self._bottom = cast(nn.Module, desk.bottom())
        self._optimizer = desk.train.make_optimizer(self._bottom.parameters())
        self._chosen = torch.full((desk.rows.counts[Pool.LEFTOVER],), everything)
        self._embedding: Tensor | None = None
        self._rows = torch.empty(0, dtype=torch.int64)

    @property
    def parts(self) -> Parts:
        """The bottom model and its optimizer."""
        return {"bottom": self._bottom, "optimizer": self._optimizer}

    def loose(self) -> Mapping[str, Tensor]:
        """Return which rows of its own are chosen, `(leftover,)`."""
        return {"chosen": self._chosen}

    def resume(self, loose: Mapping[str, Tensor]) -> None:
        """Take the choice back."""
        self._chosen = loose["chosen"]

    def forward(self, step: Step, mail: Mail) -> Outgoing:
        """Send the embedding of the step's aligned rows, then of its chosen ones, and keep the graph for `backward`."""
        aligned = self._desk.batch(step).rows
        batch = self._desk.rows.take(torch.cat([aligned, self._share(step, len(aligned))]))
        embedding = self._bottom(batch)
        self._embedding, self._rows = embedding, batch.rows
        return Outgoing(batch.rows, {ADVERTISER: embedding})

    def backward(self, step: Step, mail: Mail) -> Outgoing:
        """Update the bottom model with the gradient that came back, `(rows, width)`."""
        self._optimizer.zero_grad()
        cast(Tensor, self._embedding).backward(body_about(mail[ADVERTISER], self._rows))
        self._optimizer.step()
        self._embedding = None
        return NOTHING

    def embed(self, step: Step, mail: Mail) -> Outgoing:
        """Send the embedding of a step's rows, aligned or its own; nothing is learned from them."""
        batch = self._desk.batch(step)
        with torch.no_grad():
            return Outgoing(batch.rows, {ADVERTISER: self._bottom(batch)})

    def choose(self, step: Step, mail: Mail) -> Outgoing:
        """Take note of which of the step's own rows to train on, `(rows, 1)` of 0 and 1, where they are there."""
        if ADVERTISER in mail:
            rows = self._desk.batch(step).rows
            told = body_about(mail[ADVERTISER], rows)
            self._chosen[rows - self._desk.rows.handles(Pool.LEFTOVER)[:1]] = told[:, 0] > 0
        return NOTHING

    def _share(self, step: Step, aligned: int) -> Tensor:
        """Return this step's part of the chosen rows, in an order of the epoch's own.

        There is none where the step is over aligned rows alone. Where few steps pass over the labelled rows it is cut
        to what a batch holds beside them, at least half of one.
        """
        if step.pool == Pool.TRAIN:
            return torch.empty(0, dtype=torch.int64)
        chosen, size = self._desk.rows.handles(Pool.LEFTOVER)[self._chosen], self._desk.train.batch_size
        stream = self._desk.seeds.torch("chosen", step.phase, step.epoch)
        drawn = chosen[torch.randperm(len(chosen), generator=stream)][step.span(len(chosen))]
        return drawn[: max(size - aligned, size // 2, 1)]
