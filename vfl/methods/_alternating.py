"""Two stages that several methods share: learn to impute under `vanilla`, then train anew by alternating two heads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from vfl.exchange import NOTHING, Mail, Outgoing, bodies_about
from vfl.losses import classification_loss
from vfl.methods import Desk, Parts, TrainOptions
from vfl.methods._folds import FoldedPublisher
from vfl.methods._own import needed
from vfl.methods.vanilla import VanillaAdvertiser, VanillaPublisher
from vfl.types import ADVERTISER, Hop, Kind, Phase, Pool, Role, Step

WARM = (
    Hop("warm_forward", Role.PUBLISHER, "warm_forward", gives=Kind.EMBEDDING),
    Hop("warm_own", Role.ADVERTISER, "warm_own"),
    Hop("warm_fuse", Role.ADVERTISER, "warm_fuse", takes=("warm_forward", "warm_own"), gives=Kind.GRADIENT),
    Hop("warm_finish", Role.ADVERTISER, "warm_finish", takes=("warm_fuse",)),
    Hop("warm_backward", Role.PUBLISHER, "warm_backward", takes=("warm_fuse",)),
)
ALTERNATE = (
    Hop("forward", Role.PUBLISHER, "forward", gives=Kind.EMBEDDING),
    Hop("own", Role.ADVERTISER, "own"),
    Hop("fuse", Role.ADVERTISER, "fuse", takes=("forward", "own"), gives=Kind.GRADIENT),
    Hop("finish", Role.ADVERTISER, "finish", takes=("fuse",)),
    Hop("local", Role.ADVERTISER, "local", takes=("finish",)),
    Hop("backward", Role.PUBLISHER, "backward", takes=("fuse",)),
)
COLLECT = (
    Hop("hold_out", Role.PUBLISHER, "hold_out", gives=Kind.EMBEDDING),
    Hop("collect_sent", Role.ADVERTISER, "collect_sent", takes=("hold_out",)),
)
CHUNK = 4096


@dataclass(frozen=True, slots=True)
class FirstStage:
    """What the first stage leaves behind.

    `sent` of the aligned `rows` is `(n, width)`, all publishers' side by side; `embed` is its own bottom on any rows of
    the advertiser's.
    """

    desk: Desk
    rows: Tensor
    sent: Tensor
    embed: Callable[[Tensor], Tensor]


Generate = Callable[[FirstStage, Tensor], Tensor]
"""From what the first stage left to `(leftover, width)` embeddings for the advertiser's own rows, by handle."""


def two_stages(train: TrainOptions, min_steps: int, cross_fit: bool) -> tuple[Phase, ...]:
    """Return the first stage on aligned rows, which is not validated, and the second on all labelled ones.

    Cross-fitting, one pass between them sends each aligned row as a bottom embeds it that was not trained on it.
    """
    size = train.batch_size
    collect = Phase("collect", COLLECT, 1, size, validate=False, shuffle=False)
    return (
        Phase("warm", WARM, train.epochs, size, min_steps=min_steps, validate=False),
        *([collect] if cross_fit else []),
        Phase("train", ALTERNATE, train.epochs, size, Pool.LABELLED, min_steps=min_steps),
    )


class TwoStagePublisher:
    """`vanilla` twice: a first bottom model, or two that cross-fit, let go; then one from the same initial weights."""

    def __init__(self, desk: Desk, cross_fit: bool) -> None:
        self._first = FoldedPublisher(desk) if cross_fit else VanillaPublisher(desk)
        self._second = VanillaPublisher(desk)
        self.warm_forward, self.warm_backward = self._first.forward, self._first.backward
        self.forward, self.backward = self._second.forward, self._second.backward
        self.embed = self._second.embed
        if isinstance(self._first, FoldedPublisher):
            self.hold_out = self._first.hold_out

    @property
    def parts(self) -> Parts:
        """Both stages' models and optimizers."""
        first = {f"first_{name}": part for name, part in self._first.parts.items()}
        return {**first, **self._second.parts}


class AlternatingAdvertiser:
    """`vanilla` twice, and in the second stage a local head that trains on leftovers with generated embeddings.

    The second stage takes two updates a round, as many as the two pools share out: one of the joint network on aligned
    rows, one of the own bottom and the local head on leftovers. Prediction is by the joint network. Embeddings are
    generated from those that the publishers sent last: in the last epoch of the first stage, each from before its
    update, or where publishers cross-fit, held out. The advertiser's own embeddings, which condition what is generated,
    are not cross-fitted.
    """

    def __init__(self, desk: Desk, generate: Generate) -> None:
        self._desk, self._generate = desk, generate
        self._first, self._second = VanillaAdvertiser(desk), VanillaAdvertiser(desk)
        bottom = needed(self._second.bottom)
        self._bottom, self._head = bottom, desk.top(sum(desk.widths.values()))
        self._optimizer = desk.train.make_optimizer([*bottom.parameters(), *self._head.parameters()])
        width = sum(width for party, width in desk.widths.items() if party != ADVERTISER)
        self._sent = torch.zeros(desk.rows.counts[Pool.TRAIN], width)
        self._made = torch.empty(0, width)
        self.warm_own, self.warm_finish = self._first.own, self._first.finish
        self.own, self.fuse, self.score = self._second.own, self._second.fuse, self._second.score
        self._loss: dict[str, float] = {}

    @property
    def parts(self) -> Parts:
        """Both stages' networks and optimizers, and the local head."""
        first = {f"first_{name}": part for name, part in self._first.parts.items()}
        return {**first, **self._second.parts, "head": self._head, "head_optimizer": self._optimizer}

    def loose(self) -> Mapping[str, Tensor]:
        """Return what the publishers sent last, and what was generated from it."""
        return {"sent": self._sent, "made": self._made}

    def resume(self, loose: Mapping[str, Tensor]) -> None:
        """Take both back."""
        self._sent, self._made = loose["sent"], loose["made"]

    def warm_fuse(self, step: Step, mail: Mail) -> Outgoing:
        """Train on aligned rows, and keep what was sent of them."""
        self.collect_sent(step, mail)
        return self._first.fuse(step, mail)

    def collect_sent(self, step: Step, mail: Mail) -> Outgoing:
        """Keep what was sent of the step's rows in place of what was sent before."""
        if self._desk.publishers:
            rows = self._desk.batch(step).rows
            bodies = bodies_about(mail, self._desk.publishers, rows)
            self._sent[rows] = torch.cat([body.detach() for body in bodies.values()], dim=1)
        return NOTHING

    def finish(self, step: Step, mail: Mail) -> Outgoing:
        """End the joint update; its loss is reported with the local one."""
        self._loss = dict(self._second.finish(step, mail).report)
        return NOTHING

    def local(self, step: Step, mail: Mail) -> Outgoing:
        """Update the own bottom and the local head on leftovers of the step."""
        batch = self._desk.leftover(step)
        if not len(batch.rows):
            return Outgoing(report=self._loss)
        if not len(self._made):
            self._made = self._make()
        places = batch.rows - self._desk.rows.handles(Pool.LEFTOVER)[0]
        logits = self._head(torch.cat([self._made[places], self._bottom(batch)], dim=1))
        loss = classification_loss(logits, cast(Tensor, batch.labels))
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()
        return Outgoing(report=self._loss)

    def _make(self) -> Tensor:
        aligned, left = (self._desk.rows.handles(pool) for pool in (Pool.TRAIN, Pool.LEFTOVER))
        with torch.no_grad():
            return self._generate(FirstStage(self._desk, aligned, self._sent, self._embed), left).detach()

    def _embed(self, rows: Tensor) -> Tensor:
        bottom = cast(nn.Module, self._first.bottom)
        with torch.no_grad():
            return torch.cat([bottom(self._desk.rows.take(part)) for part in rows.split(CHUNK)])
