"""The mean of what is missing over the rows that have it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vfl.impute import State


@dataclass(frozen=True)
class Mean:
    """The mean embedding over the aligned rows, one constant for every row that lacks it.

    RISA is reported to impute means of raw attributes; this is the mean at the cut layer, which needs no message of
    its own and is, where a bottom is not linear, another vector.

    Reference: Y. Zeng, L. Liu, S. Liu, H. Dou, B. Wu, L. Liu, Reliable Imputed-Sample Assisted Vertical Federated
    Learning, 2025, https://arxiv.org/abs/2501.06429
    """

    @property
    def needs_labels(self) -> bool:
        """Never."""
        return False

    def fit(self, given: Tensor, missing: Tensor, labels: Tensor, generator: torch.Generator) -> State:
        """Return the `(m,)` mean."""
        return {"constant": missing.mean(dim=0)}

    def transform(self, given: Tensor, labels: Tensor, state: State, generator: torch.Generator) -> Tensor:
        """Return the mean for every row, `(rows, m)`."""
        return state["constant"].expand(len(given), -1)
