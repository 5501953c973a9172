"""Pre-training by telling matched pairs from mismatched ones, then split training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from vfl.exchange import Mail, Outgoing, bodies_about
from vfl.methods import Desk, Parts, TrainOptions
from vfl.methods.vanilla import EVALUATE, TRAIN, VanillaAdvertiser, VanillaPublisher
from vfl.types import ADVERTISER, Hop, Kind, Phase, Role, Step

MATCH = (
    Hop("pair_forward", Role.PUBLISHER, "forward", gives=Kind.EMBEDDING),
    Hop("pair", Role.ADVERTISER, "pair", takes=("pair_forward",), gives=Kind.GRADIENT),
    Hop("pair_backward", Role.PUBLISHER, "backward", takes=("pair",)),
)


@dataclass(frozen=True)
class VflMpd:
    """Pre-training by telling matched pairs of embeddings from mismatched ones, then `vanilla`.

    Bottoms are first trained, without labels, to tell whether a publisher's embedding and the advertiser's belong to
    one row.

    Each aligned row is paired with itself and with another of its batch. In the first phase gradients say nothing of
    labels. Only aligned rows can be paired, so the gain over `vanilla` is not expected to be large.

    Reference: W. Li, Q. Xia, J. Deng, H. Cheng, J. Liu, K. Xue, Y. Cheng, S. Xia, Achieving Lightweight Federated
    Advertising with Self-Supervised Split Distillation, 2022, https://arxiv.org/abs/2205.15987 (matched pair detection;
    the form of the loss and the two-layer judge are ours, and its distillation is left out)
    """

    pretrain_epochs: int = 1

    evaluate: ClassVar[tuple[Hop, ...]] = EVALUATE

    def __post_init__(self) -> None:
        if self.pretrain_epochs < 1:
            raise ValueError(f"got pretrain_epochs={self.pretrain_epochs}, allowed 1 or more; raise it")

    def phases(self, train: TrainOptions) -> tuple[Phase, ...]:
        """Return pre-training, then training, both on aligned rows."""
        first = Phase("pretrain", MATCH, self.pretrain_epochs, train.batch_size, validate=False)
        return first, Phase("train", TRAIN, train.epochs, train.batch_size)

    def publisher(self, desk: Desk) -> VanillaPublisher:
        """Return a publisher's side: to it both phases look alike."""
        return VanillaPublisher(desk)

    def advertiser(self, desk: Desk) -> MatchingAdvertiser:
        """Return the advertiser's side."""
        return MatchingAdvertiser(desk)


class MatchingAdvertiser:
    """A side of `vanilla` with one judge of pairs a publisher."""

    def __init__(self, desk: Desk) -> None:
        self._desk, self._side = desk, VanillaAdvertiser(desk)
        own = desk.widths.get(ADVERTISER, 0)
        with desk.seeds.initialising("judges"):
            self._judges = nn.ModuleDict({party: _judge(desk.widths[party] + own) for party in desk.publishers})
        bottom = self._side.bottom
        learned = [*self._judges.parameters(), *([] if bottom is None else bottom.parameters())]
        self._optimizer = desk.train.make_optimizer(learned) if learned else None
        self.own, self.fuse, self.finish = self._side.own, self._side.fuse, self._side.finish
        self.score = self._side.score

    @property
    def parts(self) -> Parts:
        """Those of `vanilla`, the judges and their optimizer."""
        extra = {} if self._optimizer is None else {"pretrain_optimizer": self._optimizer}
        return {**self._side.parts, "judges": self._judges, **extra}

    def pair(self, step: Step, mail: Mail) -> Outgoing:
        """Send each publisher the gradient of the matching loss by its embeddings."""
        batch, bottom = self._desk.batch(step), self._side.bottom
        bodies = bodies_about(mail, self._desk.publishers, batch.rows)
        leaves = {party: body.requires_grad_() for party, body in bodies.items()}
        if bottom is None or len(batch.rows) < 2 or self._optimizer is None:
            return Outgoing(batch.rows, {party: torch.zeros_like(leaf) for party, leaf in leaves.items()})
        own = bottom(batch)
        others = derangement(len(batch.rows), self._desk.seeds.torch("pairs", step.index))
        losses = [matching_loss(self._judges[party], leaf, own, others) for party, leaf in leaves.items()]
        loss = torch.stack(losses).mean()
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()
        gradients = {party: cast(Tensor, leaf.grad) for party, leaf in leaves.items()}
        return Outgoing(batch.rows, gradients, report={"pretrain_loss": loss.item()})


def matching_loss(judge: nn.Module, theirs: Tensor, own: Tensor, others: Tensor) -> Tensor:
    """Return -mean(log s(i, i) + log(1 - s(i, other of i))) of `(rows, dim)` embeddings, s the judge's probability."""
    matched = judge(torch.cat([theirs, own], dim=1))
    mismatched = judge(torch.cat([theirs, own[others]], dim=1))
    return (functional.softplus(-matched) + functional.softplus(mismatched)).mean()


def derangement(rows: int, generator: torch.Generator) -> Tensor:
    """Return `(rows,)`: another place for each of two or more, all different, along one random cycle."""
    cycle = torch.randperm(rows, generator=generator)
    found = torch.empty_like(cycle)
    found[cycle] = cycle.roll(1)
    return found


def _judge(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, 32), nn.ReLU(), nn.Linear(32, 1))
