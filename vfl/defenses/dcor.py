"""The loss is charged for distance correlation between the embedding and what is to be hidden."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from vfl.defenses import Counter, PenaltyContext, hard
from vfl.defenses._noise import check_between
from vfl.types import Role

_SMALL = 1e-7


@dataclass(frozen=True)
class Dcor:
    """Adds `weight` (0 to 100) times the distance correlation of the embedding with columns or labels.

    `protects` `features` is a publisher's term, against its own encoded columns (NoPeek); `labels` is the advertiser's,
    on each embedding it receives, against the labels of the batch, and reaches publishers by their gradients. The term
    is over pairs of rows, so rows of a batch change each other's gradients; it takes memory in the square of the batch.
    It hides what distances between rows tell, not the gradients themselves; an embedding with a decoy part defeats it.
    No epsilon follows.

    Reference: P. Vepakomma, A. Singh, O. Gupta, R. Raskar, NoPeek: Information leakage reduction to share activations
    in distributed deep learning, ICDM Workshops 2020, https://arxiv.org/abs/2008.09161

    For labels: J. Sun, X. Yang, Y. Yao, C. Wang, Label Leakage and Protection from Forward Embedding in Vertical
    Federated Learning, 2022, https://arxiv.org/abs/2203.01451. There the logarithm is taken; here the correlation
    itself. The estimate is the biased one: independent columns of a small batch are above 0.
    """

    weight: float = 0.1
    protects: Literal["features", "labels"] = "features"

    binary_only: ClassVar[bool] = False
    couples_rows: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_between(0, 100, weight=self.weight)

    @property
    def counters(self) -> tuple[Counter, ...]:
        """Return the attacks on it where it is labels that embeddings hide: one reads gradients, one sends a decoy."""
        return ({"name": "averaging"}, {"name": "embedding_extension"}) if self.protects == "labels" else ()

    @property
    def side(self) -> Role:
        """The owner of what is protected."""
        return Role.PUBLISHER if self.protects == "features" else Role.ADVERTISER

    def penalty(self, h: Tensor, ctx: PenaltyContext) -> Tensor:
        """Return the weighted correlation of the `(rows, dim)` embedding, from 0 to `weight`."""
        batch = ctx.batch
        if self.protects == "labels":
            if batch.labels is None:
                raise ValueError("dcor with protects: labels needs labels; mount it at the advertiser")
            hidden = torch.nn.functional.one_hot(hard(batch.labels), ctx.classes).to(h.dtype)
            return self.weight * distance_correlation(h, hidden)
        distances = _numbers_and_ids(batch.numeric.to(h.dtype), batch.categorical)
        return self.weight * _correlation(_centred(_distances(h)), _centred(distances))


def distance_correlation(x: Tensor, y: Tensor) -> Tensor:
    """Return the distance correlation of `(rows, p)` with `(rows, q)` samples, from 0 to 1; 0 for a constant.

    Reference: G. J. Szekely, M. L. Rizzo, N. K. Bakirov, Measuring and testing dependence by correlation of distances,
    Annals of Statistics 2007, https://arxiv.org/abs/0803.4101
    """
    return _correlation(_centred(_distances(x)), _centred(_distances(y)))


def _numbers_and_ids(numeric: Tensor, categorical: Tensor) -> Tensor:
    """Return distances of rows: squared differences of numbers, plus 1 for every id that differs, under the root."""
    differing = (categorical[:, None, :] != categorical[None, :, :]).sum(dim=2)
    return _distances(numeric, differing.to(numeric.dtype))


def _distances(x: Tensor, more: Tensor | None = None) -> Tensor:
    squares = x.square().sum(dim=1)
    between = (squares[:, None] + squares[None, :] - 2 * x @ x.T).clamp(min=0)
    between = between if more is None else between + more
    apart = between > _SMALL * between.detach().max()
    return torch.where(apart, torch.where(apart, between, 1.0).sqrt(), 0.0)


def _centred(distances: Tensor) -> Tensor:
    return distances - distances.mean(dim=0, keepdim=True) - distances.mean(dim=1, keepdim=True) + distances.mean()


def _correlation(first: Tensor, second: Tensor) -> Tensor:
    spread = (first.square().mean() * second.square().mean()).sqrt()
    if not first.numel() or spread <= torch.finfo(first.dtype).tiny:
        return (first.sum() + second.sum()) * 0
    return ((first * second).mean() / spread).clamp(min=_SMALL).sqrt()
