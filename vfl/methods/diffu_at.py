"""Generated publisher embeddings for the advertiser's own rows, and alternating training on both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from torch import Tensor

from vfl.methods import Desk, TrainOptions
from vfl.methods._alternating import AlternatingAdvertiser, FirstStage, TwoStagePublisher, two_stages
from vfl.methods.vanilla import EVALUATE
from vfl.types import Hop, Phase


@dataclass(frozen=True)
class DiffuAt:
    """Alternating training on aligned rows and on the advertiser's own with generated publisher embeddings.

    Trains `vanilla`, fits a conditional diffusion model to the embeddings the advertiser was sent, generates those that
    its own rows lack, and starts anew: aligned rows train the joint network, own rows a local head, over one bottom.

    `impute` may be any imputer; its condition is the advertiser's own embedding, and the class only where the imputer
    is asked for it (`label: true`), since a class in the condition makes what is generated a stand-in for the label.
    Publishers see what they see under `vanilla`, twice. With `cross_fit` a publisher trains two first bottoms, each on
    half of the aligned rows, and the generator is fitted to what each embeds the other half to: embeddings of rows that
    a bottom was trained on are not distributed like those of new rows.

    Reference: Penghui Wei, Hongjian Dou, Shaoguo Liu, Rongjun Tang, Li Liu, Liang Wang, Bo Zheng, FedAds: A Benchmark
    for Privacy-Preserving CVR Estimation with Vertical Federated Learning, SIGIR 2023,
    https://arxiv.org/abs/2305.08328

    That a conditional diffusion model generates federated embeddings which training then exploits is the paper's; its
    schedule, network, losses and how it alternates could not be read. Ours take one joint and one local update a
    round, start again from the first stage's initial weights, and generate each row once.
    """

    impute: str | dict[str, Any] = "diffusion"
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
        """Return the advertiser's side."""
        return AlternatingAdvertiser(desk, self._generate)

    def _generate(self, past: FirstStage, rows: Tensor) -> Tensor:
        imputer = past.desk.imputer(self.impute)
        aligned, left = (cast(Tensor, past.desk.rows.take(part).labels) for part in (past.rows, rows))
        fitted, drawn = past.desk.seeds.torch("impute"), past.desk.seeds.torch("imputed")
        with torch.enable_grad():
            state = imputer.fit(past.embed(past.rows), past.sent, aligned, fitted)
        return imputer.transform(past.embed(rows), left, state, drawn)
