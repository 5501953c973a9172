"""Self-supervised pre-training at each party, then split training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import nn

from vfl.exchange import Mail, Outgoing
from vfl.methods import Desk, Parts, TrainOptions
from vfl.methods._views import masked, predictor, siamese
from vfl.methods.vanilla import EVALUATE, TRAIN, VanillaAdvertiser, VanillaPublisher
from vfl.types import Hop, Phase, Pool, Role, Step

PRETRAIN = (
    Hop("pretrain", Role.PUBLISHER, "pretrain"),
    Hop("pretrain_own", Role.ADVERTISER, "pretrain"),
)


@dataclass(frozen=True)
class SsVfl:
    """Self-supervised pre-training at each party, then `vanilla`.

    Each party first trains its bottom on all rows it holds, aligned or not, so that two masked views of a row embed
    alike.

    The first phase uses no label and sends nothing. Each value of a view is hidden with probability `mask`.

    Reference: T. Castiglia, S. Wang, S. Patterson, Self-Supervised Vertical Federated Learning, Workshop on Federated
    Learning at NeurIPS 2022 (known to us by its outline only; masked views and SimSiam's loss are ours); X. Chen,
    K. He, Exploring Simple Siamese Representation Learning, CVPR 2021, https://arxiv.org/abs/2011.10566
    """

    mask: float = 0.25
    pretrain_epochs: int = 1

    evaluate: ClassVar[tuple[Hop, ...]] = EVALUATE

    def __post_init__(self) -> None:
        if not 0 < self.mask < 1 or self.pretrain_epochs < 1:
            raise ValueError(f"got mask={self.mask}, pretrain_epochs={self.pretrain_epochs}, allowed 0 to 1, 1 or more")

    def phases(self, train: TrainOptions) -> tuple[Phase, ...]:
        """Return pre-training on everyone's rows, then training on aligned ones."""
        first = Phase("pretrain", PRETRAIN, self.pretrain_epochs, train.batch_size, Pool.UNION, validate=False)
        return first, Phase("train", TRAIN, train.epochs, train.batch_size)

    def publisher(self, desk: Desk) -> SelfSupervised:
        """Return a publisher's side."""
        side = VanillaPublisher(desk)
        return SelfSupervised(desk, side, side.bottom, self.mask)

    def advertiser(self, desk: Desk) -> SelfSupervised:
        """Return the advertiser's side."""
        side = VanillaAdvertiser(desk)
        return SelfSupervised(desk, side, side.bottom, self.mask)


class SelfSupervised:
    """A side of `vanilla` whose bottom is trained on its own rows first."""

    def __init__(
        self, desk: Desk, side: VanillaPublisher | VanillaAdvertiser, bottom: nn.Module | None, mask: float
    ) -> None:
        self._desk, self._side, self._bottom, self._mask = desk, side, bottom, mask
        with desk.seeds.initialising("predictor"):
            self._predictor = predictor(desk.widths.get(desk.party, 1))
        learned = [*self._predictor.parameters(), *([] if bottom is None else bottom.parameters())]
        self._optimizer = desk.train.make_optimizer(learned)

    def __getattr__(self, name: str) -> object:
        """Leave every other handler to `vanilla`."""
        return getattr(self._side, name)

    @property
    def parts(self) -> Parts:
        """Those of `vanilla`, the predictor and its optimizer."""
        return {**self._side.parts, "predictor": self._predictor, "pretrain_optimizer": self._optimizer}

    def pretrain(self, step: Step, mail: Mail) -> Outgoing:
        """Take one step on two views of the step's aligned rows and own leftovers."""
        rows = torch.cat([self._desk.batch(step).rows, self._desk.leftover(step).rows])
        if self._bottom is None or not len(rows):
            return Outgoing(report={"pretrain_loss": 0.0})
        batch, stream = self._desk.rows.take(rows), self._desk.seeds.torch("views", step.index)
        one, two = (self._bottom(masked(batch, self._mask, stream)) for _ in range(2))
        loss = siamese(self._predictor, cast(torch.Tensor, one), cast(torch.Tensor, two))
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()
        return Outgoing(report={"pretrain_loss": loss.item()})
