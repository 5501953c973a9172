"""Nothing in place of what is missing."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vfl.impute import State


@dataclass(frozen=True)
class Zero:
    """Zeros: what a fusing network sees of a party that is silent. It learns nothing but the width."""

    @property
    def needs_labels(self) -> bool:
        """Never."""
        return False

    def fit(self, given: Tensor, missing: Tensor, labels: Tensor, generator: torch.Generator) -> State:
        """Return a row of zeros."""
        return {"constant": torch.zeros_like(missing[0])}

    def transform(self, given: Tensor, labels: Tensor, state: State, generator: torch.Generator) -> Tensor:
        """Return `(rows, m)` zeros."""
        return state["constant"].expand(len(given), -1)
