"""Split neural network with synchronous SGD: the method everything else is measured against."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from vfl.backward import backward
from vfl.exchange import bodies_about, body_about
from vfl.losses import classification_loss, probabilities
from vfl.methods import NOTHING, Desk, Mail, Outgoing, Parts, Side, TrainOptions, _several, _stale
from vfl.types import Batch, Hop, Kind, PartyId, Phase, Role, Step

TRAIN = (
    Hop("forward", Role.PUBLISHER, "forward", gives=Kind.EMBEDDING),
    Hop("own", Role.ADVERTISER, "own"),
    Hop("fuse", Role.ADVERTISER, "fuse", takes=("forward", "own"), gives=Kind.GRADIENT),
    Hop("finish", Role.ADVERTISER, "finish", takes=("fuse",)),
    Hop("backward", Role.PUBLISHER, "backward", takes=("fuse",)),
)
EVALUATE = (
    Hop("embed", Role.PUBLISHER, "embed", gives=Kind.EMBEDDING),
    Hop("score", Role.ADVERTISER, "score", takes=("embed",), gives=Kind.SCORE),
    Hop("collect", Role.REFEREE, "collect", takes=("score",)),
)


@dataclass(frozen=True)
class Vanilla:
    """Split neural network trained by synchronous SGD on the aligned rows.

    Each publisher sends the embedding of its bottom model; the advertiser fuses them with its own, and returns to each
    publisher the gradient of the mean loss with respect to that publisher's embedding. Without defenses this computes,
    bit for bit, what central training of the same network computes. The advertiser updates on clean gradients whatever
    its defenses send. With `train.stale` 1 publishers send the embedding of a round before they have had the gradient
    of the one before, so that the parties compute at the same time: a publisher's update is one round late, the
    advertiser's is not, and one more round at the end hands out the last gradient. With `train.batches_per_message`
    above 1 publishers send the embeddings of so many mini-batches at once, all made by the same weights, and are sent
    their gradients at once; every party still updates after each mini-batch.

    Reference: P. Vepakomma, O. Gupta, T. Swedish, R. Raskar, Split learning for health: Distributed deep learning
    without sharing raw patient data, 2018, https://arxiv.org/abs/1812.00564
    """

    evaluate: ClassVar[tuple[Hop, ...]] = EVALUATE
    heeds: ClassVar[frozenset[str]] = frozenset({"labels", "penalty", "releases", "weights", "classes"})
    """What of defenses is obeyed beside messages and networks, and what their guarantees may count on.

    `labels` that they make and `penalty` terms are obeyed. `releases`: a row is sent once an epoch and kind, and until
    noise is added what is sent of it depends on no other row but by the weights. `weights`: a bottom takes one backward
    pass of one forward pass a batch. `classes`: gradients can be had by class. A method that does not say so has none.
    """

    def phases(self, train: TrainOptions) -> tuple[Phase, ...]:
        """Return the one phase: the aligned rows, epoch after epoch; late gradients need a second to come in."""
        if train.stale:
            return _stale.phases(train.epochs, train.batch_size)
        if train.several > 1:
            return _several.phases(train.epochs, train.batch_size, train.several)
        return (Phase("train", TRAIN, epochs=train.epochs, batch_size=train.batch_size),)

    def publisher(self, desk: Desk) -> Side:
        """Return a publisher's side."""
        if desk.train.several > 1:
            return _several.SeveralPublisher(desk)
        return _stale.StalePublisher(desk) if desk.train.stale else VanillaPublisher(desk)

    def advertiser(self, desk: Desk) -> Side:
        """Return the advertiser's side."""
        side = VanillaAdvertiser(desk)
        if desk.train.several > 1:
            return _several.SeveralAdvertiser(side, desk.train.batch_size)
        return _stale.StaleAdvertiser(side) if desk.train.stale else side


class VanillaPublisher:
    """Bottom model and optimizer of one publisher. It sees its own columns and the gradients it is sent."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._advertiser = "advertiser"
        self._bottom = cast(nn.Module, desk.bottom())
        self._optimizer = desk.train.make_optimizer(self._bottom.parameters())
        self._embedding: Tensor | None = None
        self._rows = torch.empty(0, dtype=torch.int64)

    @property
    def bottom(self) -> nn.Module:
        """The bottom model."""
        return self._bottom

    @property
    def parts(self) -> Parts:
        """The bottom model and its optimizer."""
        return {"bottom": self._bottom, "optimizer": self._optimizer}

    def forward(self, step: Step, mail: Mail) -> Outgoing:
        """Send the embedding of the step's rows, `(rows, width)`, and keep its graph for `backward`."""
        batch = self._desk.batch(step)
        embedding: Tensor = self._bottom(batch)
        self._embedding, self._rows = embedding, batch.rows
        return Outgoing(batch.rows, {self._advertiser: embedding})

    def backward(self, step: Step, mail: Mail) -> Outgoing:
        """Update the bottom model with the gradient that came back, `(rows, width)`."""
        (envelope,) = mail.values()
        gradient = body_about(envelope, self._rows)
        self._optimizer.zero_grad()
        embedding = cast(Tensor, self._embedding)
        penalty = self._desk.penalty(step, {self._desk.party: embedding})
        if penalty is None:
            backward(embedding, gradient)
        else:
            torch.autograd.backward([embedding, penalty], [gradient, torch.ones_like(penalty)])
        self._optimizer.step()
        self._embedding = None
        return NOTHING

    def embed(self, step: Step, mail: Mail) -> Outgoing:
        """Send the embedding of evaluation rows; nothing is learned from them."""
        batch = self._desk.batch(step)
        with torch.no_grad():
            return Outgoing(batch.rows, {self._advertiser: self._bottom(batch)})


class VanillaAdvertiser:
    """Own bottom model (where it has columns), top model and optimizer of the advertiser, who alone sees labels."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._bottom = desk.bottom()
        self._top = desk.top(self._inputs())
        modules = [self._top] if self._bottom is None else [self._bottom, self._top]
        self._optimizer = desk.train.make_optimizer([p for module in modules for p in module.parameters()])
        self._own: Tensor | None = None
        self._own_leaf: Tensor | None = None
        self._loss = 0.0

    @property
    def bottom(self) -> nn.Module | None:
        """The own bottom model."""
        return self._bottom

    @property
    def parts(self) -> Parts:
        """Top model, optimizer, and the own bottom model where there is one."""
        own = {} if self._bottom is None else {"bottom": self._bottom}
        return {**own, "top": self._top, "optimizer": self._optimizer}

    def own(self, step: Step, mail: Mail) -> Outgoing:
        """Run the own bottom model, beside the publishers' forward."""
        self._optimizer.zero_grad()
        if self._bottom is not None:
            self._own = self._bottom(self._desk.batch(step))
            self._own_leaf = cast(Tensor, self._own).detach().requires_grad_()
        return NOTHING

    def fuse(self, step: Step, mail: Mail) -> Outgoing:
        """Run the top model forward and backward only, so that the publishers' gradients leave early."""
        batch = self._desk.batch(step)
        bodies = bodies_about(mail, self._desk.publishers, batch.rows)
        leaves = {party: body.requires_grad_() for party, body in bodies.items()}
        logits = self._top(self._joined(leaves, self._own_leaf))
        loss = classification_loss(logits, cast(Tensor, batch.labels))
        penalty = self._desk.penalty(step, leaves)
        backward(loss if penalty is None else loss + penalty)
        self._loss = loss.item()
        gradients = {party: cast(Tensor, leaf.grad) for party, leaf in leaves.items()}
        return Outgoing(batch.rows, gradients, by_class=partial(self._by_class, leaves, self._own_leaf))

    def finish(self, step: Step, mail: Mail) -> Outgoing:
        """Carry the gradient through the own bottom model and update, beside the publishers' backward."""
        if self._own is not None and self._own_leaf is not None:
            backward(self._own, cast(Tensor, self._own_leaf.grad))
        self._optimizer.step()
        self._own = self._own_leaf = None
        return Outgoing(report={"loss": self._loss})

    def score(self, step: Step, mail: Mail) -> Outgoing:
        """Send class probabilities of evaluation rows, `(rows, classes)`, to the referee."""
        batch = self._desk.batch(step)
        with torch.no_grad():
            own = None if self._bottom is None else self._bottom(batch)
            logits = self._top(self._joined(bodies_about(mail, self._desk.publishers, batch.rows), own))
        return Outgoing(batch.rows, {"referee": probabilities(logits)}, report=valid_report(step, batch, logits))

    def _by_class(self, leaves: dict[PartyId, Tensor], own: Tensor | None, party: PartyId) -> Tensor:
        """Return what `party` would be sent if all rows were of one class, `(classes, rows, width)`."""
        with torch.enable_grad():
            logits = self._top(self._joined(leaves, own))
            rows, classes = len(logits), range(self._desk.classes)
            losses = [classification_loss(logits, torch.full((rows,), each)) for each in classes]
            gradients = [torch.autograd.grad(loss, leaves[party], retain_graph=True)[0] for loss in losses]
        return torch.stack(gradients)

    def _inputs(self) -> int:
        """Return how wide the top's input is."""
        return sum(self._desk.widths.values())

    def _joined(self, embeddings: dict[PartyId, Tensor], own: Tensor | None) -> Tensor:
        return torch.cat([*embeddings.values(), *([] if own is None else [own])], dim=1)


def valid_report(step: Step, batch: Batch, logits: Tensor) -> dict[str, float]:
    """Return the advertiser's own loss on validation rows; of test rows it reports nothing, the referee does."""
    if step.phase != "valid":
        return {}
    loss = classification_loss(logits, cast(Tensor, batch.labels))
    return {"valid_loss_sum": loss.item() * len(batch.rows), "valid_rows": float(len(batch.rows))}
