"""The label owner's own network, trained on its own columns alone: what some defenses of labels learn from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vfl.losses import classification_loss, probabilities
from vfl.methods import TrainOptions
from vfl.seeds import Seeds
from vfl.types import Batch

Teach = Callable[[Tensor, Tensor], Tensor]
SCORING_ROWS = 8192


@dataclass(frozen=True, slots=True)
class Teacher:
    """Builds, trains and scores the label owner's own network. Seen by the label owner alone.

    `numeric` `(n, p)` and `categorical` `(n, f)` are its training rows; `build` returns a fresh network of a batch's
    logits, `None` without columns; `options` are the run's own.
    """

    numeric: Tensor
    categorical: Tensor
    classes: int
    build: Callable[[], nn.Module | None]
    options: TrainOptions
    seeds: Seeds

    def teach(self, labels: Tensor, rows: Tensor) -> Tensor:
        """Train on `(m,)` places among the training rows and return `(n, classes)` probabilities of all of them.

        Labels are `(m,)` classes or `(m, classes)` weights. Without columns every row gets the mean label. Called
        twice with the same labels it returns the same.
        """
        network = self.build()
        if network is None or not len(rows):
            weights = labels if labels.ndim == 2 else nn.functional.one_hot(labels, self.classes).float()
            mean = weights.mean(dim=0) if len(rows) else torch.full((self.classes,), 1 / self.classes)
            return mean.clamp(0, 1).expand(len(self.numeric), self.classes).clone()
        optimizer = self.options.make_optimizer(network.parameters())
        for epoch in range(self.options.epochs):
            order = torch.randperm(len(rows), generator=self.seeds.torch("teacher", epoch))
            for part in order.split(self.options.batch_size):
                optimizer.zero_grad()
                classification_loss(network(self._batch(rows[part])), labels[part]).backward()
                optimizer.step()
        with torch.no_grad():
            every = torch.arange(len(self.numeric)).split(SCORING_ROWS)
            return torch.cat([probabilities(network(self._batch(part))) for part in every])

    def _batch(self, rows: Tensor) -> Batch:
        return Batch(rows, self.numeric[rows], self.categorical[rows])
