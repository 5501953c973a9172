"""A network that predicts what is missing from what is given."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vfl.impute import State
from vfl.impute._net import Plan, draw, minimise, original, run, scales, standard


@dataclass(frozen=True)
class Regression:
    """The conditional mean: a network fitted by squared error on the aligned rows, in units of each column's spread.

    It is what FedUD calls representation transfer, without the task loss beside it.

    Reference: W. Ouyang, R. Dong, R. Tao, X. Liu, FedUD: Exploiting Unaligned Data for Cross-Platform Federated
    Click-Through Rate Prediction, SIGIR 2024, https://arxiv.org/abs/2407.18472 (read as an abstract only)
    """

    hidden: int = 64
    steps: int = 300
    batch_size: int = 128
    lr: float = 3e-3
    shrink: float = 1e-3

    def __post_init__(self) -> None:
        self._plan()
        if self.hidden < 1 or self.shrink < 0:
            raise ValueError(f"got hidden={self.hidden}, shrink={self.shrink}, allowed 1 or more and 0 or more")

    @property
    def needs_labels(self) -> bool:
        """Never."""
        return False

    def fit(self, given: Tensor, missing: Tensor, labels: Tensor, generator: torch.Generator) -> State:
        """Return the network's weights and both halves' scales; `shrink` weighs the squared weights."""
        state = scales(given, missing)
        inputs, targets = standard(state, "given", given), standard(state, "missing", missing)

        def loss(weights: dict[str, Tensor], rows: Tensor) -> Tensor:
            error = (run(weights, "net", inputs[rows]) - targets[rows]).square().sum(dim=1).mean()
            return error + self.shrink * torch.stack([value.square().sum() for value in weights.values()]).sum()

        weights = draw("net", [given.shape[1], self.hidden, missing.shape[1]], generator)
        return {**state, **minimise(weights, loss, len(given), self._plan(), generator)}

    def transform(self, given: Tensor, labels: Tensor, state: State, generator: torch.Generator) -> Tensor:
        """Return the predicted half, `(rows, m)`."""
        return original(state, run(state, "net", standard(state, "given", given)))

    def _plan(self) -> Plan:
        return Plan(self.steps, self.batch_size, self.lr)
