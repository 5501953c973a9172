"""What FedCVT computes: embeddings in two halves, attention over aligned rows, agreement of three views, and losses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

NEVER = -1e9
"""The score of a key that must not be attended to."""


@dataclass(frozen=True, slots=True)
class Halves:
    """How an embedding is cut: the last `common` of its columns are comparable between parties, the others its own."""

    common: int

    def cut(self, body: Tensor) -> tuple[Tensor, Tensor]:
        """Return the unique and the common part of `(rows, width)`."""
        return body[:, : body.shape[1] - self.common], body[:, body.shape[1] - self.common :]


def attention(queries: Tensor, keys: Tensor, temperature: float, same: Tensor | None) -> Tensor:
    """Return `(rows, keys)` weights: softmax(q k' / sqrt(d)) raised to 1 / `temperature` and scaled to sum to 1.

    `same` `(rows, keys)` marks the keys that are the row itself, which it must not attend to.
    """
    scores = queries @ keys.T / (max(keys.shape[1], 1) ** 0.5 * temperature)
    return torch.softmax(scores if same is None else scores.masked_fill(same, NEVER), dim=1)


@dataclass(frozen=True, slots=True)
class Pair:
    """Aligned rows as two parties embedded them: `ours`, who has a row, and `theirs`, who lacks it; `(keys, width)`."""

    halves: Halves
    ours: Tensor
    theirs: Tensor

    def weights(self, body: Tensor, temperature: float, same: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return how rows that we embed to `body` attend to the aligned ones, for either part of their embedding.

        Our unique part is comparable with our own alone, our common part with theirs.
        """
        unique, common = self.halves.cut(body)
        keys = self.halves.cut(self.ours)[0], self.halves.cut(self.theirs)[1]
        return attention(unique, keys[0], temperature, same), attention(common, keys[1], temperature, same)

    def estimate(self, weights: tuple[Tensor, Tensor]) -> Tensor:
        """Return the `(rows, width)` embeddings they would have sent."""
        values = self.halves.cut(self.theirs)
        return torch.cat([weight @ value for weight, value in zip(weights, values, strict=True)], dim=1)


def common_loss(ours: Tensor, theirs: Tensor) -> Tensor:
    """Return the mean squared difference of two parties' common parts, `(rows, common)` each."""
    return (ours - theirs).square().mean()


def overlap_loss(unique: Tensor, common: Tensor) -> Tensor:
    """Return how much a party's two parts tell of each other: the norm of their `(unique, common)` products per row."""
    return torch.linalg.matrix_norm(unique.T @ common) / max(len(unique), 1)


def attended_label_loss(weights: Tensor, labels: Tensor, keys: Tensor) -> Tensor:
    """Return the mean of -log of the weight that `(rows, keys)` attention gives to keys of the row's own class."""
    own = (weights * (labels[:, None] == keys[None, :])).sum(dim=1)
    return -own.clamp_min(1e-6).log().mean()


def agreed(views: Sequence[Tensor], thresholds: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Return `(rows,)` classes of the first view, and bool: whether all views name it, each above its threshold.

    Views are `(rows, classes)` probabilities.
    """
    classes = views[0].argmax(dim=1)
    sure = torch.ones(len(classes), dtype=torch.bool)
    for view, threshold in zip(views, thresholds, strict=True):
        most = view.max(dim=1)
        sure &= (most.indices == classes) & (most.values > threshold)
    return classes, sure
