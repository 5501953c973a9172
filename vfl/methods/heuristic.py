"""A user's mean embedding for rows that only the advertiser holds, and alternating training on both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from vfl.errors import ConfigError
from vfl.methods import Desk, TrainOptions
from vfl.methods._alternating import AlternatingAdvertiser, FirstStage, TwoStagePublisher, two_stages
from vfl.methods.vanilla import EVALUATE
from vfl.types import Hop, Phase


@dataclass(frozen=True)
class Heuristic:
    """Alternating training on aligned rows and on the advertiser's own with their user's mean embedding.

    Trains `vanilla`, gives each of the advertiser's own rows the mean embedding of its user's aligned rows, and starts
    anew: aligned rows train the joint network, own rows a local head, over one shared bottom.

    `key` names the advertiser's categorical column that stands for the user; a user without aligned rows gets the mean
    over users, as every row does without a key. Publishers see what they see under `vanilla`, twice.
    With `cross_fit` means are of embeddings by a bottom that was not trained on the row, as in `diffu_at`.

    Reference: Penghui Wei, Hongjian Dou, Shaoguo Liu, Rongjun Tang, Li Liu, Liang Wang, Bo Zheng, FedAds: A Benchmark
    for Privacy-Preserving CVR Estimation with Vertical Federated Learning, SIGIR 2023,
    https://arxiv.org/abs/2305.08328 (HeuristicVFL, known to us by a re-implementation only; one joint and one local
    update a round, and the second start, are ours)
    """

    key: str = ""
    min_steps: int = 0
    cross_fit: bool = False

    evaluate: ClassVar[tuple[Hop, ...]] = EVALUATE

    def __post_init__(self) -> None:
        if self.min_steps < 0:
            raise ValueError(f"got min_steps={self.min_steps}, allowed 0 or more; raise it")

    def phases(self, train: TrainOptions) -> tuple[Phase, ...]:
        """Return both stages, each as long as `train.epochs`: twice the passes of `vanilla` over aligned rows."""
        return two_stages(train, self.min_steps, self.cross_fit)

    def publisher(self, desk: Desk) -> TwoStagePublisher:
        """Return a publisher's side."""
        return TwoStagePublisher(desk, self.cross_fit)

    def advertiser(self, desk: Desk) -> AlternatingAdvertiser:
        """Return the advertiser's side; raises `ConfigError` where it has no such column."""
        self._column(desk)
        return AlternatingAdvertiser(desk, self._generate)

    def _column(self, desk: Desk) -> int | None:
        if not self.key:
            return None
        columns = desk.schema.categorical
        if self.key not in columns:
            got = f"got {self.key!r}, allowed a categorical column of the advertiser ({', '.join(columns) or 'none'})"
            raise ConfigError(f"{got}; name one of these", key="method.key")
        return columns.index(self.key)

    def _generate(self, past: FirstStage, rows: Tensor) -> Tensor:
        column = self._column(past.desk)
        if column is None:
            return past.sent.mean(dim=0).expand(len(rows), -1).clone()
        known, asked = (past.desk.rows.take(part).categorical[:, column].contiguous() for part in (past.rows, rows))
        return means_by_key(known, past.sent, asked)


def means_by_key(keys: Tensor, values: Tensor, asked: Tensor) -> Tensor:
    """Return `(m, dim)`: for each `(m,)` asked key the mean of its `(n, dim)` values; the mean over keys if new."""
    users, places = keys.unique(return_inverse=True)
    counts = torch.bincount(places).to(values.dtype)[:, None]
    means = torch.zeros(len(users), values.shape[1]).index_add(0, places, values) / counts
    found = torch.searchsorted(users, asked).clamp_max(len(users) - 1)
    return torch.where((users[found] == asked)[:, None], means[found], means.mean(dim=0))
