"""The advertiser alone, on the aligned rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from vfl.methods import Desk, TrainOptions
from vfl.methods._local import LEARN, SCORE, IdlePublisher, LocalAdvertiser
from vfl.types import Hop, Phase, Pool


@dataclass(frozen=True)
class Local:
    """The advertiser alone, on the aligned rows.

    What the advertiser would have without any partner, from the same labels that `vanilla` uses. No message leaves it.
    `min_steps` keeps training going where an epoch has few rows.
    """

    min_steps: int = 0

    evaluate: ClassVar[tuple[Hop, ...]] = SCORE
    pool: ClassVar[Pool] = Pool.TRAIN
    heeds: ClassVar[frozenset[str]] = frozenset({"labels"})

    def __post_init__(self) -> None:
        if self.min_steps < 0:
            raise ValueError(f"got min_steps={self.min_steps}, allowed 0 or more; raise it")

    def phases(self, train: TrainOptions) -> tuple[Phase, ...]:
        """Return the one phase."""
        return (Phase("train", LEARN, train.epochs, train.batch_size, self.pool, min_steps=self.min_steps),)

    def publisher(self, desk: Desk) -> IdlePublisher:
        """Return a publisher's side, which does nothing."""
        return IdlePublisher()

    def advertiser(self, desk: Desk) -> LocalAdvertiser:
        """Return the advertiser's side."""
        return LocalAdvertiser(desk, leftovers=self.pool == Pool.LABELLED)
