"""A publisher asks whether the gradients it receives could have been made without any label."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from vfl.defenses import Act, ReceiveContext, State, Verdict
from vfl.defenses._noise import check_between
from vfl.defenses._watch import check_act, check_decay, check_warm_up, unsuspicious
from vfl.types import Kind, Role

_ROWS, _RIDGE, _LEAST = 256, 0.1, 16


@dataclass(frozen=True)
class GradScrutiny:
    """Flags an advertiser whose gradients follow from the publisher's own embeddings: no label taught those.

    The gradient of a cross-entropy is a residue, prediction less label, times a direction. Where predictions are
    calibrated the mean residue is 0 whatever one knows but the label, so an honest gradient can hardly be predicted
    from the embedding it answers. One that steers the embedding somewhere else, as in feature-space hijacking, is a
    function of that embedding and can. In each batch a kernel regression of received gradients on sent embeddings
    (of up to 256 rows, each predicted from all others) says how much of their squared deviation from the mean is
    explained; sums over batches fade with `decay` (from 0, below 1), so that batches of long gradients count most.
    From batch `warm_up` on, all rows of a batch are flagged where the explained share is above `limit` (0 to 1).
    `repair` learns nothing from such a batch, `refuse` stops the run, `report` counts.

    Reference: J. Fu, X. Ma, B. B. Zhu, P. Hu, R. Zhao, Y. Jia, P. Xu, H. Jin, D. Zhang, Focusing on Pinocchio's Nose:
    A Gradients Scrutinizer to Thwart Split-Learning Hijacking Attacks Using Intrinsic Attributes, NDSS 2023

    There the client owns the labels and compares gradients of equal and of different ones, and SplitGuard (E. Erdogan,
    A. Kupcu, A. E. Cicek, 2022, https://arxiv.org/abs/2108.09052) sends wrong labels now and then; a publisher here has
    no label, so neither can be had. The test by explained share is ours. It misses whoever adds the true task's
    gradient to its own, and whoever adds noise. Where the embedding all but tells the label, as on breast cancer, an
    honest advertiser is flagged too: while the network learns, residues are as easy to foretell as labels.
    """

    limit: float = 0.4
    warm_up: int = 20
    decay: float = 0.95
    act: Act = "report"

    side: ClassVar[Role] = Role.PUBLISHER
    binary_only: ClassVar[bool] = False
    receives: ClassVar[frozenset[Kind]] = frozenset({Kind.GRADIENT})

    def __post_init__(self) -> None:
        check_between(0, 1, limit=self.limit)
        check_warm_up(self.warm_up)
        check_act(self.act)
        check_decay(self.decay)

    def init(self) -> State:
        """Return the state before the first batch: `left` and `total` squares and the number of `batches`, `()`."""
        zero = torch.zeros((), dtype=torch.float64)
        return {"left": zero, "total": zero.clone(), "batches": torch.zeros((), dtype=torch.int64)}

    def inspect(self, body: Tensor, state: State, ctx: ReceiveContext) -> tuple[Verdict, State]:
        """Return the same explained share for every row of the batch, and the sums with the batch in them."""
        if ctx.sent is None or len(body) < _LEAST:
            return unsuspicious(body), state
        left, total = unexplained(body[:_ROWS].double() * len(body), ctx.sent[:_ROWS].double())
        sums = {
            "left": self.decay * state["left"] + left,
            "total": self.decay * state["total"] + total,
            "batches": state["batches"] + 1,
        }
        explained = 1 - sums["left"] / sums["total"] if sums["total"] > 0 else torch.zeros(())
        judges = int(sums["batches"]) > self.warm_up
        suspicion = explained.double().clamp(min=0).expand(len(body))
        flagged = (suspicion > self.limit) & judges
        return Verdict(suspicion, flagged, torch.zeros_like(body)), sums


def unexplained(gradients: Tensor, embeddings: Tensor) -> tuple[Tensor, Tensor]:
    """Return the squares of `(rows, dim)` gradients that a regression leaves, and those that the mean leaves.

    Kernel ridge regression on `(rows, width)` embeddings, the kernel's width their median distance; every row is
    predicted by all others, in closed form.
    """
    rows = len(gradients)
    squared = torch.cdist(embeddings, embeddings).square()
    width = squared.median().clamp(min=torch.finfo(squared.dtype).tiny)
    kernel = (-squared / (2 * width)).exp() + _RIDGE * torch.eye(rows, dtype=squared.dtype)
    others_mean = (gradients.sum(dim=0) - gradients) / (rows - 1)
    inverse = torch.linalg.inv(kernel)
    residual = (inverse @ (gradients - gradients.mean(dim=0))) / inverse.diagonal()[:, None]
    return residual.square().sum(), (gradients - others_mean).square().sum()
