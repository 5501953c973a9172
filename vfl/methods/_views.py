"""Self-supervision on one party's columns: masked views of its rows, and the loss that draws views together."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from vfl.types import Batch

MISSING = 1
"""The id that encoders give to a missing category."""


def masked(batch: Batch, rate: float, generator: torch.Generator) -> Batch:
    """Return a view in which each value is hidden with probability `rate`: numbers as 0, their mean, ids as missing."""
    hidden = [torch.rand(part.shape, generator=generator) < rate for part in (batch.numeric, batch.categorical)]
    numeric = batch.numeric.masked_fill(hidden[0], 0.0)
    return replace(batch, numeric=numeric, categorical=batch.categorical.masked_fill(hidden[1], MISSING))


def away(predicted: Tensor, target: Tensor) -> Tensor:
    """Return the negative mean cosine between `(rows, dim)` predictions and targets, which get no gradient."""
    return -functional.cosine_similarity(predicted, target.detach(), dim=1).mean()


def siamese(predictor: nn.Module, one: Tensor, two: Tensor) -> Tensor:
    """Return SimSiam's loss of two views' embeddings, -1 (alike) to 1: each predicts the other."""
    return (away(predictor(one), two) + away(predictor(two), one)) / 2


def predictor(width: int) -> nn.Sequential:
    """Return a predictor of `(rows, width)` embeddings."""
    return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
