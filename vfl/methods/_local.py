"""The advertiser by itself: no publisher takes part in training or in prediction."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from vfl.exchange import Mail, Outgoing
from vfl.losses import classification_loss, probabilities
from vfl.methods import Desk, Parts
from vfl.methods._own import needed
from vfl.methods.vanilla import valid_report
from vfl.types import ADVERTISER, REFEREE, Hop, Kind, Role, Step

LEARN = (Hop("learn", Role.ADVERTISER, "learn"),)
SCORE = (
    Hop("score", Role.ADVERTISER, "score", gives=Kind.SCORE),
    Hop("collect", Role.REFEREE, "collect", takes=("score",)),
)


class LocalAdvertiser:
    """Own bottom and a top on its embedding, trained on aligned rows, and on leftovers where `leftovers` is set."""

    def __init__(self, desk: Desk, leftovers: bool) -> None:
        self._desk, self._leftovers = desk, leftovers
        self._net = nn.Sequential(needed(desk.bottom()), desk.top(desk.widths[ADVERTISER]))
        self._optimizer = desk.train.make_optimizer(self._net.parameters())

    @property
    def parts(self) -> Parts:
        """The network and its optimizer."""
        return {"net": self._net, "optimizer": self._optimizer}

    def learn(self, step: Step, mail: Mail) -> Outgoing:
        """Take one step on the rows at hand; nothing leaves the advertiser but the loss."""
        rows = self._desk.batch(step).rows
        batch = self._desk.rows.take(torch.cat([rows, self._desk.leftover(step).rows]) if self._leftovers else rows)
        loss = classification_loss(self._net(batch), cast(Tensor, batch.labels))
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()
        return Outgoing(report={"loss": loss.item()})

    def score(self, step: Step, mail: Mail) -> Outgoing:
        """Send class probabilities of evaluation rows, `(rows, classes)`, to the referee."""
        batch = self._desk.batch(step)
        with torch.no_grad():
            logits = self._net(batch)
        return Outgoing(batch.rows, {REFEREE: probabilities(logits)}, report=valid_report(step, batch, logits))


class IdlePublisher:
    """A publisher that takes no part."""

    @property
    def parts(self) -> Parts:
        """Nothing."""
        return {}
