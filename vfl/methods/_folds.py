"""A publisher's side that cross-fits: each half of the aligned rows trains a bottom of its own."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from vfl.exchange import NOTHING, Mail, Outgoing, body_about
from vfl.methods import Desk, Parts
from vfl.types import ADVERTISER, Step

FOLDS = 2


class FoldedPublisher:
    """Two bottoms from the same initial weights, each trained on half of the aligned rows, under one joint top.

    What a network embeds a row to that it was trained on tells more of the label than what it embeds a new row to.
    `hold_out` sends each row as the bottom embeds it that did not train on it. Halves are even and odd handles, which
    are drawn at random for the run.
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._bottoms = nn.ModuleList([cast(nn.Module, desk.bottom()) for _ in range(FOLDS)])
        self._optimizers = [desk.train.make_optimizer(bottom.parameters()) for bottom in self._bottoms]
        self._embedding: Tensor | None = None
        self._rows = torch.empty(0, dtype=torch.int64)

    @property
    def parts(self) -> Parts:
        """Both bottoms and their optimizers."""
        return {"bottoms": self._bottoms, **{f"optimizer_{fold}": own for fold, own in enumerate(self._optimizers)}}

    def forward(self, step: Step, mail: Mail) -> Outgoing:
        """Send embeddings of the step's rows, each by its own half's bottom."""
        rows = self._desk.batch(step).rows
        self._embedding, self._rows = self._embedded(rows, rows % FOLDS), rows
        return Outgoing(rows, {ADVERTISER: self._embedding})

    def backward(self, step: Step, mail: Mail) -> Outgoing:
        """Update each bottom with the gradients of its own rows."""
        for optimizer in self._optimizers:
            optimizer.zero_grad()
        cast(Tensor, self._embedding).backward(body_about(mail[ADVERTISER], self._rows))
        for optimizer in self._optimizers:
            optimizer.step()
        self._embedding = None
        return NOTHING

    def hold_out(self, step: Step, mail: Mail) -> Outgoing:
        """Send embeddings of the step's rows, each by the other half's bottom; nothing is learned from them."""
        rows = self._desk.batch(step).rows
        with torch.no_grad():
            return Outgoing(rows, {ADVERTISER: self._embedded(rows, 1 - rows % FOLDS)})

    def _embedded(self, rows: Tensor, by: Tensor) -> Tensor:
        """Return `(rows, width)` embeddings, row i by the bottom `by[i]`."""
        found = torch.zeros(len(rows), self._desk.widths[self._desk.party])
        for fold, bottom in enumerate(self._bottoms):
            own = torch.nonzero(by == fold)[:, 0]
            if len(own):
                found = found.index_put((own,), bottom(self._desk.rows.take(rows[own])))
        return found
