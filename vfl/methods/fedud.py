"""Representation transfer from aligned rows to the advertiser's own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from vfl.methods import Desk, TrainOptions
from vfl.methods._risa_side import RisaAdvertiser
from vfl.methods.risa import LEARN, Risa
from vfl.methods.vanilla import EVALUATE, VanillaPublisher
from vfl.types import Hop, Phase, Pool


@dataclass(frozen=True)
class Fedud:
    """Training on the advertiser's own rows too, the publishers' embeddings predicted from its own.

    First `vanilla` on aligned rows; then on all rows with labels, by a network fitted to what was sent of aligned ones.

    Publishers see what they see under `vanilla`. The second phase goes on with the first's weights; the network is
    fitted when it begins and every `refit_every` rounds, since the embeddings that it predicts move.

    Reference: W. Ouyang, R. Dong, R. Tao, X. Liu, FedUD: Exploiting Unaligned Data for Cross-Platform Federated
    Click-Through Rate Prediction, SIGIR 2024, https://arxiv.org/abs/2407.18472

    Only the abstract could be read, which has two steps, distillation into a representation transfer network and its
    use on unaligned rows. Fitting by squared error alone, and fitting again as embeddings move, are ours.
    """

    impute: str | dict[str, Any] = "regression"
    warm_steps: int = 0
    min_steps: int = 0
    refit_every: int = 100

    evaluate: ClassVar[tuple[Hop, ...]] = EVALUATE

    def __post_init__(self) -> None:
        if min(self.warm_steps, self.min_steps) < 0 or self.refit_every < 1:
            raise ValueError("got warm_steps or min_steps below 0, or refit_every below 1; raise it")

    def phases(self, train: TrainOptions) -> tuple[Phase, ...]:
        """Return aligned rows alone, then all rows with labels, each for `train.epochs`."""
        first = Phase("aligned", LEARN, train.epochs, train.batch_size, min_steps=self.warm_steps)
        second = Phase("both", LEARN, train.epochs, train.batch_size, Pool.LABELLED, min_steps=self.min_steps)
        return first, second

    def publisher(self, desk: Desk) -> VanillaPublisher:
        """Return a publisher's side."""
        return VanillaPublisher(desk)

    def advertiser(self, desk: Desk) -> RisaAdvertiser:
        """Return the advertiser's side: RISA's, without heads' losses; in the first phase no leftover row is taken."""
        return RisaAdvertiser(desk, Risa(impute=self.impute, refit_every=self.refit_every, evidence_weight=0.0))
