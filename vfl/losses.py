"""The classification loss that every method shares, and its inverse link."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def classification_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean cross-entropy of `(rows, 1)` binary or `(rows, classes)` logits against `(rows,)` class ids.

    Labels may be `(rows, classes)` weights instead, of any sign and sum: the loss is linear in them. Of no rows it is
    0, with a gradient of none.
    """
    if not len(labels):
        return logits.sum()
    if logits.shape[1] == 1:
        positive = labels[:, 1] if labels.ndim == 2 else labels
        return functional.binary_cross_entropy_with_logits(logits[:, 0], positive.to(logits.dtype))
    return functional.cross_entropy(logits, labels)


def row_losses(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the `(rows,)` cross-entropies whose mean is `classification_loss`."""
    if logits.shape[1] == 1:
        positive = labels[:, 1] if labels.ndim == 2 else labels
        return functional.binary_cross_entropy_with_logits(logits[:, 0], positive.to(logits.dtype), reduction="none")
    return functional.cross_entropy(logits, labels, reduction="none")


def probabilities(logits: Tensor) -> Tensor:
    """Return `(rows, classes)` class probabilities of `(rows, 1)` or `(rows, classes)` logits."""
    if logits.shape[1] == 1:
        positive = torch.sigmoid(logits)
        return torch.cat([1 - positive, positive], dim=1)
    return torch.softmax(logits, dim=1)
