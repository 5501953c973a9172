"""Self-supervision across parties and within each, then split training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from vfl.exchange import NOTHING, Mail, Outgoing, bodies_about
from vfl.methods import Desk, Parts, TrainOptions
from vfl.methods._views import away, masked, predictor, siamese
from vfl.methods.vanilla import EVALUATE, TRAIN, VanillaAdvertiser, VanillaPublisher
from vfl.types import ADVERTISER, Hop, Kind, PartyId, Phase, Pool, Role, Step

PRETRAIN = (
    Hop("project", Role.PUBLISHER, "project", gives=Kind.EMBEDDING),
    Hop("cross_own", Role.ADVERTISER, "cross", takes=("project",), gives=Kind.EMBEDDING),
    Hop("cross", Role.PUBLISHER, "cross", takes=("cross_own",)),
)


@dataclass(frozen=True)
class Fedhssl:
    """Pre-training in which parties predict each other's projections of aligned rows, then `vanilla`.

    In the first phase every publisher and the advertiser send each other projections, `(rows, dim)`, of the step's
    aligned rows; each draws its own towards what it got, and, `local` times as strongly, two masked views of all its
    rows towards each other. No label is used. Publishers see projections of the advertiser's columns, which under
    `vanilla` they never do.

    Reference: Y. He, Y. Kang, X. Zhao, J. Luo, L. Fan, Y. Han, Q. Yang, A Hybrid Self-Supervised Learning Framework
    for Vertical Federated Learning, 2022, https://arxiv.org/abs/2208.08934

    The authors keep one encoder for the cross-party task and one for the local task, and average the upper layers of
    the latter over parties; here one bottom serves both tasks, views are masked columns, and nothing is averaged.
    """

    dim: int = 32
    mask: float = 0.25
    local: float = 0.5
    pretrain_epochs: int = 1

    evaluate: ClassVar[tuple[Hop, ...]] = EVALUATE

    def __post_init__(self) -> None:
        if not 0 < self.mask < 1 or min(self.dim, self.pretrain_epochs) < 1 or self.local < 0:
            raise ValueError("got mask outside 0 to 1, dim or pretrain_epochs below 1, or local below 0; change it")

    def phases(self, train: TrainOptions) -> tuple[Phase, ...]:
        """Return pre-training on everyone's rows, then training on aligned ones."""
        first = Phase("pretrain", PRETRAIN, self.pretrain_epochs, train.batch_size, Pool.UNION, validate=False)
        return first, Phase("train", TRAIN, train.epochs, train.batch_size)

    def publisher(self, desk: Desk) -> CrossSide:
        """Return a publisher's side."""
        side = VanillaPublisher(desk)
        return CrossSide(desk, side, side.bottom, self)

    def advertiser(self, desk: Desk) -> CrossSide:
        """Return the advertiser's side; without columns it sends nothing and learns nothing in the first phase."""
        side = VanillaAdvertiser(desk)
        return CrossSide(desk, side, side.bottom, self)


class CrossSide:
    """A side of `vanilla` whose bottom is first trained on other parties' projections and on its own views."""

    def __init__(
        self, desk: Desk, side: VanillaPublisher | VanillaAdvertiser, bottom: nn.Module | None, options: Fedhssl
    ) -> None:
        self._desk, self._side, self._bottom, self._options = desk, side, bottom, options
        with desk.seeds.initialising("projector"):
            self._projector = nn.Linear(desk.widths.get(desk.party, 1), options.dim)
            self._heads = nn.ModuleDict({name: predictor(options.dim) for name in ("cross", "local")})
        own = [] if bottom is None else [bottom]
        learned = [p for module in (self._projector, self._heads, *own) for p in module.parameters()]
        self._optimizer = desk.train.make_optimizer(learned)

    def __getattr__(self, name: str) -> object:
        """Leave every other handler to `vanilla`."""
        return getattr(self._side, name)

    @property
    def parts(self) -> Parts:
        """Those of `vanilla`, projector, predictors and their optimizer."""
        extra: Parts = {"projector": self._projector, "heads": self._heads, "pretrain_optimizer": self._optimizer}
        return {**self._side.parts, **extra}

    def project(self, step: Step, mail: Mail) -> Outgoing:
        """Send the projection of the step's aligned rows to the advertiser."""
        return self._sent((ADVERTISER,), step)

    def cross(self, step: Step, mail: Mail) -> Outgoing:
        """Learn from the projections that came; the advertiser sends its own, from before, to every publisher."""
        to = self._desk.publishers if self._desk.role is Role.ADVERTISER else ()
        answer = self._sent(to, step) if to else NOTHING
        self._learn(step, [*bodies_about(mail, mail, self._desk.batch(step).rows).values()])
        return answer

    def _sent(self, to: Sequence[PartyId], step: Step) -> Outgoing:
        rows = self._desk.batch(step).rows
        if self._bottom is None:
            return NOTHING
        with torch.no_grad():
            projected: Tensor = self._projector(self._bottom(self._desk.rows.take(rows)))
        return Outgoing(rows, dict.fromkeys(to, projected))

    def _learn(self, step: Step, others: Sequence[Tensor]) -> None:
        aligned, left = self._desk.batch(step).rows, self._desk.leftover(step).rows
        if self._bottom is None or not len(aligned) + len(left):
            return
        everyone, stream = self._desk.rows.take(torch.cat([aligned, left])), self._desk.seeds.torch("views", step.index)
        one, two = (self._projector(self._bottom(masked(everyone, self._options.mask, stream))) for _ in range(2))
        loss = self._options.local * siamese(self._heads["local"], one, two)
        if others and len(aligned):
            own = self._projector(self._bottom(self._desk.rows.take(aligned)))
            loss = loss + cross_loss(self._heads["cross"](own), others)
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()


def cross_loss(predicted: Tensor, others: Sequence[Tensor]) -> Tensor:
    """Return the mean over other parties of the negative cosine to their `(rows, dim)` projections."""
    return torch.stack([away(predicted, other) for other in others]).mean()
