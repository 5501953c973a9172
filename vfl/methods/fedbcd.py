"""Several local updates for every exchange."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, cast

import torch
from torch import Tensor, nn

from vfl.exchange import NOTHING, Mail, Outgoing
from vfl.losses import classification_loss
from vfl.methods import Desk, Parts, TrainOptions
from vfl.methods.vanilla import EVALUATE, TRAIN, VanillaAdvertiser, VanillaPublisher
from vfl.types import Hop, PartyId, Phase, Step


@dataclass(frozen=True)
class Fedbcd:
    """Split training with several local updates for every exchange.

    After an exchange each party takes `local_steps` updates on it before the next: the publishers with the gradient
    they were sent, the advertiser with the embeddings it was sent, both growing stale.

    `order: parallel` has all parties update at once, from the weights that the exchange found; one local step is
    `vanilla`. With `sequential` the advertiser updates first, and the publishers get the gradient that its updated
    networks have; publishers among themselves still update at once. Nothing else crosses the wire than under
    `vanilla`, only less often for as many updates.

    Reference: Y. Liu, X. Zhang, Y. Kang, L. Li, T. Chen, M. Hong, Q. Yang, FedBCD: A Communication-Efficient
    Collaborative Learning Framework for Distributed Features, IEEE Transactions on Signal Processing 2022,
    https://arxiv.org/abs/1912.11187 (without its proximal term)
    """

    local_steps: int = 5
    order: Literal["parallel", "sequential"] = "parallel"

    evaluate: ClassVar[tuple[Hop, ...]] = EVALUATE
    heeds: ClassVar[frozenset[str]] = frozenset({"labels", "penalty", "releases", "classes"})

    def __post_init__(self) -> None:
        if self.local_steps < 1:
            raise ValueError(f"got local_steps={self.local_steps}, allowed 1 or more; raise it")

    def phases(self, train: TrainOptions) -> tuple[Phase, ...]:
        """Return the one phase: the aligned rows, epoch after epoch."""
        return (Phase("train", TRAIN, epochs=train.epochs, batch_size=train.batch_size),)

    def publisher(self, desk: Desk) -> RepeatingPublisher:
        """Return a publisher's side."""
        return RepeatingPublisher(desk, self.local_steps)

    def advertiser(self, desk: Desk) -> RepeatingAdvertiser:
        """Return the advertiser's side."""
        return RepeatingAdvertiser(desk, self)


class RepeatingPublisher:
    """A publisher of `vanilla` that uses each gradient several times."""

    def __init__(self, desk: Desk, local_steps: int) -> None:
        self._desk, self._more, self._side = desk, local_steps - 1, VanillaPublisher(desk)
        self.forward, self.embed = self._side.forward, self._side.embed

    @property
    def parts(self) -> Parts:
        """Those of `vanilla`."""
        return self._side.parts

    def backward(self, step: Step, mail: Mail) -> Outgoing:
        """Update with the gradient, then again with the same gradient at what the rows embed to by then."""
        self._side.backward(step, mail)
        for _ in range(self._more):
            self._side.forward(step, {})
            self._side.backward(step, mail)
        return NOTHING


class RepeatingAdvertiser:
    """An advertiser of `vanilla` that uses the publishers' embeddings several times."""

    def __init__(self, desk: Desk, options: Fedbcd) -> None:
        self._desk, self._options, self._side = desk, options, VanillaAdvertiser(desk)
        self._first = options.order == "sequential"
        self.score = self._side.score
        self._sent: dict[PartyId, Tensor] = {}
        self._loss = 0.0

    @property
    def parts(self) -> Parts:
        """Those of `vanilla`."""
        return self._side.parts

    def own(self, step: Step, mail: Mail) -> Outgoing:
        """Run the own bottom model, unless it is updated before its gradients are wanted."""
        return NOTHING if self._first else self._side.own(step, mail)

    def fuse(self, step: Step, mail: Mail) -> Outgoing:
        """Send gradients as `vanilla` does, in the sequential order after all local updates; keep the embeddings."""
        self._sent = {party: mail[party].body.detach().clone() for party in self._desk.publishers}
        if self._first:
            self._loss = self._update(step, self._options.local_steps)
            self._side.own(step, mail)
        return self._side.fuse(step, mail)

    def finish(self, step: Step, mail: Mail) -> Outgoing:
        """Update, then again with the same embeddings; the loss reported is that of the exchange."""
        if self._first:
            return Outgoing(report={"loss": self._loss})
        found = self._side.finish(step, mail)
        self._update(step, self._options.local_steps - 1)
        return found

    def _update(self, step: Step, times: int) -> float:
        """Take so many updates on the embeddings that were sent last, and return the loss before the first."""
        parts, batch, losses = self._side.parts, self._desk.batch(step), [0.0]
        optimizer, top = cast(torch.optim.Optimizer, parts["optimizer"]), cast(nn.Module, parts["top"])
        for _ in range(times):
            own = [] if self._side.bottom is None else [self._side.bottom(batch)]
            loss = classification_loss(top(torch.cat([*self._sent.values(), *own], dim=1)), cast(Tensor, batch.labels))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return losses[min(1, times)]
