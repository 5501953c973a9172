"""Training on the advertiser's own labelled rows too, the publishers' halves imputed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from vfl.methods import Desk, TrainOptions
from vfl.methods._risa_side import RisaAdvertiser
from vfl.methods.risa import Risa
from vfl.methods.vanilla import EVALUATE, TRAIN, VanillaPublisher
from vfl.types import Hop, Phase, Pool


@dataclass(frozen=True)
class Advonly:
    """Aligned rows, and the advertiser's own with the publishers' embeddings imputed, under one plain cross-entropy.

    The control that RISA must be compared with: it uses the same labels and the same imputed embeddings, but no row of
    a publisher's, no evidence and no choice. Publishers see what they see under `vanilla`. `min_steps` keeps training
    going where an epoch has few rows; `refit_every` is how many rounds what is imputed from is kept.
    """

    impute: str | dict[str, Any] = "mean"
    min_steps: int = 470
    refit_every: int = 25

    evaluate: ClassVar[tuple[Hop, ...]] = EVALUATE

    def __post_init__(self) -> None:
        if self.min_steps < 0 or self.refit_every < 1:
            raise ValueError("got min_steps below 0 or refit_every below 1; raise it")

    def phases(self, train: TrainOptions) -> tuple[Phase, ...]:
        """Return the one phase: all rows that the advertiser has labels of."""
        return (Phase("train", TRAIN, train.epochs, train.batch_size, Pool.LABELLED, min_steps=self.min_steps),)

    def publisher(self, desk: Desk) -> VanillaPublisher:
        """Return a publisher's side."""
        return VanillaPublisher(desk)

    def advertiser(self, desk: Desk) -> RisaAdvertiser:
        """Return the advertiser's side: RISA's, without heads' losses."""
        return RisaAdvertiser(desk, Risa(impute=self.impute, refit_every=self.refit_every, evidence_weight=0.0))
