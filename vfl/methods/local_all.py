"""The advertiser alone, on all rows that it has labels of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from vfl.methods import Desk, TrainOptions
from vfl.methods._local import LEARN, SCORE, IdlePublisher, LocalAdvertiser
from vfl.types import Hop, Phase, Pool


@dataclass(frozen=True)
class LocalAll:
    """The advertiser alone, on all rows that it has labels of.

    The baseline that a partner must beat: its own labels cost the advertiser nothing. No message leaves it.
    `min_steps` keeps training going where an epoch has few rows.
    """

    min_steps: int = 0

    evaluate: ClassVar[tuple[Hop, ...]] = SCORE
    heeds: ClassVar[frozenset[str]] = frozenset({"labels"})

    def __post_init__(self) -> None:
        if self.min_steps < 0:
            raise ValueError(f"got min_steps={self.min_steps}, allowed 0 or more; raise it")

    def phases(self, train: TrainOptions) -> tuple[Phase, ...]:
        """Return the one phase."""
        return (Phase("train", LEARN, train.epochs, train.batch_size, Pool.LABELLED, min_steps=self.min_steps),)

    def publisher(self, desk: Desk) -> IdlePublisher:
        """Return a publisher's side, which does nothing."""
        return IdlePublisher()

    def advertiser(self, desk: Desk) -> LocalAdvertiser:
        """Return the advertiser's side."""
        return LocalAdvertiser(desk, leftovers=True)
