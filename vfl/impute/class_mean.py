"""The mean of what is missing over the rows of the same class."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vfl.impute import State


@dataclass(frozen=True)
class ClassMean:
    """The mean embedding of the row's class over the aligned rows; of all of them where the class is not known.

    The imputed value then stands for the label: a network trained on it can read the class off the imputed half
    instead of learning from the given one. Meant for comparison.
    """

    @property
    def needs_labels(self) -> bool:
        """Always."""
        return True

    def fit(self, given: Tensor, missing: Tensor, labels: Tensor, generator: torch.Generator) -> State:
        """Return `(classes + 1, m)` means, the last one of all rows, which also serves a class with no row."""
        overall = missing.mean(dim=0)
        found = [
            missing[labels == label].mean(dim=0) if bool((labels == label).any()) else overall
            for label in range(int(labels.max()) + 1)
        ]
        return {"means": torch.stack([*found, overall])}

    def transform(self, given: Tensor, labels: Tensor, state: State, generator: torch.Generator) -> Tensor:
        """Return each row's class mean, `(rows, m)`."""
        last = len(state["means"]) - 1
        return state["means"][torch.where((labels >= 0) & (labels < last), labels, last)]
