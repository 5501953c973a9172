"""Only the largest entries of the gradients are sent."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from vfl.defenses import SendContext, State
from vfl.defenses._noise import check_between, check_positive
from vfl.types import Kind, Role


@dataclass(frozen=True)
class GradCompression:
    """Sends the share `keep` (above 0, up to 1) of a batch's entries that are largest in size, and zeros elsewhere.

    With `residual` `row`, what a row was not sent is kept by its handle and added to its next gradient, so nothing is
    lost for good; `none` forgets it. The largest entries are the positives' where these are rare, so this saves bytes
    rather than labels; no epsilon follows.

    Reference: A. F. Aji, K. Heafield, Sparse Communication for Distributed Gradient Descent, EMNLP 2017,
    https://arxiv.org/abs/1704.05021

    The paper drops entries of the weights' gradients, where a residual belongs to a weight. At the cut it belongs to a
    row: code that keeps it by place in the batch adds one user's gradient to another's. The table of residuals is
    copied at each step, so `row` costs memory and time in the number of rows.
    """

    keep: float = 0.1
    residual: Literal["none", "row"] = "none"

    kinds: ClassVar[frozenset[Kind]] = frozenset({Kind.GRADIENT})
    side: ClassVar[Role] = Role.ADVERTISER
    binary_only: ClassVar[bool] = False
    couples_rows: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_positive(keep=self.keep)
        check_between(0, 1, keep=self.keep)

    def init(self) -> State:
        """Return the empty state; with residuals it has `left` `(handles, dim)`, for gradients without 1/rows."""
        return {}

    def apply(self, body: Tensor, state: State, ctx: SendContext) -> tuple[Tensor, State]:
        """Return the `(rows, dim)` gradients with all but their largest entries zero, and the residuals."""
        if body.numel() == 0 or self.residual == "none" or ctx.rows is None:
            return self._largest(body), state
        unit = len(body)
        left = _table(state.get("left"), int(ctx.rows.max()) + 1, body.shape[1])
        whole = body * unit + left[ctx.rows].to(body.dtype)
        sent = self._largest(whole)
        left[ctx.rows] = (whole - sent).to(left.dtype)
        return sent / unit, {"left": left}

    def _largest(self, body: Tensor) -> Tensor:
        count = math.ceil(self.keep * body.numel())
        flat = body.flatten()
        kept = flat.abs().topk(count).indices
        return torch.zeros_like(flat).index_copy(0, kept, flat[kept]).reshape(body.shape)


def _table(known: Tensor | None, handles: int, dim: int) -> Tensor:
    """Return a copy of the residuals by handle, long enough for all `handles`."""
    if known is None or known.shape[1] != dim:
        return torch.zeros(handles, dim)
    return torch.cat([known, torch.zeros(max(handles - len(known), 0), dim)])
