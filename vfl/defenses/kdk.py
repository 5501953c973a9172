"""Labels are made soft so that the true class stands among k almost equal ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from vfl.defenses import LabelContext
from vfl.defenses._noise import check_between
from vfl.types import Role


@dataclass(frozen=True)
class Kdk:
    """Spreads each training label over k classes: the true one and the k - 1 that a teacher finds likeliest.

    The advertiser's own network, trained on clean labels and its own columns, is the teacher. The true class gets
    1/k + `gap` (1 - 1/k), the others (1 - `gap`)/k: at `gap` 0 the k classes are equal, at 1 nothing is hidden. `k` is
    at least 2 and at most the number of classes. With two classes k is 2, and all that is left of a label is `gap`,
    the same for every row: gradients of both classes grow alike in length, their directions still tell. No epsilon
    follows.

    Reference: M. Arazzi, S. Nicolazzo, A. Nocera, KDk: A Defense Mechanism Against Label Inference Attacks in
    Vertical Federated Learning, 2024, https://arxiv.org/abs/2404.12369

    Reconstructed from the abstract: a teacher's soft labels, made almost equal over the k likeliest classes. How the
    gap is set, and that the true class is always among the k, are ours.
    """

    k: int = 2
    gap: float = 0.2

    side: ClassVar[Role] = Role.ADVERTISER
    binary_only: ClassVar[bool] = False
    each_epoch: ClassVar[bool] = False
    couples_rows: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_between(0, 1, gap=self.gap)
        if self.k < 2:
            raise ValueError(f"k: got {self.k}, allowed whole numbers from 2; 2 hides least")

    def transform(self, labels: Tensor, ctx: LabelContext) -> Tensor:
        """Return `(n, classes)` float32 weights that sum to 1. Raises `ValueError` for fewer classes than `k`."""
        if self.k > ctx.classes:
            raise ValueError(f"k: got {self.k}, allowed up to the {ctx.classes} classes; lower it")
        scores = ctx.teach(labels, torch.arange(len(labels))).double()
        scores.scatter_(1, labels[:, None], torch.inf)
        among = scores.topk(self.k, dim=1).indices
        weights = torch.zeros_like(scores).scatter(1, among, (1 - self.gap) / self.k)
        return weights.scatter_add(1, labels[:, None], torch.full((len(labels), 1), self.gap).double()).float()
