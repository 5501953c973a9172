"""A local branch that imitates the joint network, trained beside it on the advertiser's own rows too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from vfl.exchange import Mail, Outgoing, bodies_about
from vfl.losses import probabilities, row_losses
from vfl.methods import Desk, Parts, TrainOptions
from vfl.methods._own import OneUpdate, needed
from vfl.methods.vanilla import EVALUATE, TRAIN, VanillaPublisher, valid_report
from vfl.types import ADVERTISER, REFEREE, Hop, Phase, Pool, Step


@dataclass(frozen=True)
class Jpl:
    """Joint network and a local branch that must do without the publishers, trained together.

    The branch predicts the publishers' embeddings from the advertiser's own (`imitation` weighs its squared error on
    aligned rows), classifies by them on all rows with labels, and is drawn to rank rows of a batch as the joint
    network does (`rank`). Prediction here is by the joint network, which shares the own bottom. Publishers get
    gradients of the joint loss alone and see what they see under `vanilla`.

    Reference: W. Li, Q. Xia, H. Cheng, K. Xue, S. Xia, Vertical Semi-Federated Learning for Efficient Online
    Advertising, 2022, https://arxiv.org/abs/2209.15635

    Imitation of the joint branch and rank alignment between branches are the abstract's; the forms of both losses and
    their weights are ours.
    """

    imitation: float = 1.0
    rank: float = 0.1

    evaluate: ClassVar[tuple[Hop, ...]] = EVALUATE

    def __post_init__(self) -> None:
        if min(self.imitation, self.rank) < 0:
            raise ValueError(f"got imitation={self.imitation}, rank={self.rank}, allowed 0 or more; raise it")

    def phases(self, train: TrainOptions) -> tuple[Phase, ...]:
        """Return the one phase: all rows that the advertiser has labels of."""
        return (Phase("train", TRAIN, train.epochs, train.batch_size, Pool.LABELLED),)

    def publisher(self, desk: Desk) -> VanillaPublisher:
        """Return a publisher's side."""
        return VanillaPublisher(desk)

    def advertiser(self, desk: Desk) -> PrivilegedAdvertiser:
        """Return the advertiser's side; raises `ConfigError` where it has no columns."""
        return PrivilegedAdvertiser(desk, self)


class PrivilegedAdvertiser:
    """Own bottom, joint top, and the local branch: an imitator of the publishers' embeddings, and a top of its own."""

    def __init__(self, desk: Desk, options: Jpl) -> None:
        bottom, own = needed(desk.bottom()), desk.widths[ADVERTISER]
        self._desk, self._options, self._bottom = desk, options, bottom
        width = sum(desk.widths.values())
        with desk.seeds.initialising("imitator"):
            self._imitator = nn.Sequential(nn.Linear(own, 64), nn.ReLU(), nn.Linear(64, max(width - own, 1)))
        self._top, self._local = desk.top(width), desk.top(width)
        modules = [bottom, self._imitator, self._top, self._local]
        self._optimizer = desk.train.make_optimizer([p for module in modules for p in module.parameters()])
        self._update = OneUpdate(self._optimizer)
        self.own, self.finish = self._update.own, self._update.finish

    @property
    def parts(self) -> Parts:
        """All networks and their optimizer."""
        networks = {"bottom": self._bottom, "imitator": self._imitator, "top": self._top, "local": self._local}
        return {**networks, "optimizer": self._optimizer}

    def fuse(self, step: Step, mail: Mail) -> Outgoing:
        """Send each publisher the gradient of the joint loss by its embeddings; keep those of the own networks."""
        batch, left = self._desk.batch(step), self._desk.leftover(step)
        bodies = bodies_about(mail, self._desk.publishers, batch.rows)
        leaves = {party: body.requires_grad_() for party, body in bodies.items()}
        count, labels = len(batch.rows), torch.cat([cast(Tensor, batch.labels), cast(Tensor, left.labels)])
        own = self._bottom(self._desk.rows.take(torch.cat([batch.rows, left.rows])))
        sent = torch.cat([*leaves.values(), own.new_zeros(count, 0)], dim=1)
        joint = self._top(torch.cat([sent, own[:count]], dim=1))
        made = self._imitator(own)[:, : sent.shape[1]]
        local = self._local(torch.cat([made, own], dim=1))
        error = (made[:count] - sent.detach()).square().sum(dim=1)
        loss = row_losses(joint, labels[:count]).sum() + self._options.imitation * error.sum()
        loss = loss / max(count, 1) + row_losses(local, labels).sum() / max(len(labels), 1)
        if self._options.rank and count > 1:
            loss = loss + self._options.rank * rank_loss(local[:count], joint[:count].detach())
        loss.backward()
        self._update.loss = loss.item()
        return Outgoing(batch.rows, {party: cast(Tensor, leaf.grad) for party, leaf in leaves.items()})

    def score(self, step: Step, mail: Mail) -> Outgoing:
        """Send class probabilities of evaluation rows by the joint network, `(rows, classes)`, to the referee."""
        batch = self._desk.batch(step)
        with torch.no_grad():
            bodies = bodies_about(mail, self._desk.publishers, batch.rows)
            logits = self._top(torch.cat([*bodies.values(), self._bottom(batch)], dim=1))
        return Outgoing(batch.rows, {REFEREE: probabilities(logits)}, report=valid_report(step, batch, logits))


def rank_loss(ours: Tensor, theirs: Tensor) -> Tensor:
    """Return how far `(rows, k)` logits order pairs of rows otherwise than `theirs` do, each column by itself.

    The mean over all ordered pairs i, j of the cross-entropy between sigmoid(ours_i - ours_j) and
    sigmoid(theirs_i - theirs_j).
    """
    rows = len(ours)
    gap, wanted = (each[:, None] - each[None, :] for each in (ours, theirs))
    losses = functional.binary_cross_entropy_with_logits(gap, torch.sigmoid(wanted), reduction="none")
    off = ~torch.eye(rows, dtype=torch.bool)
    return losses[off].mean()
