"""Imputers: what the embedding of a party that does not hold a row might have been, given those of parties that do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

State = Mapping[str, Tensor]
"""What an imputer learned: named tensors, so that a checkpoint can hold it."""


class Imputer(Protocol):
    """A frozen dataclass of options. Pure: tensors and state in, tensors and state out; it draws from `generator` only.

    Rows are split into the columns that are given, `(rows, d)`, and those that are missing, `(rows, m)`; one state
    serves one such split. The label party runs it, on embeddings it was sent anyway, so imputing moves no new value.
    """

    @property
    def needs_labels(self) -> bool:
        """Whether the classes of rows condition what is imputed. Then imputed values tell something of the class."""
        ...

    def fit(self, given: Tensor, missing: Tensor, labels: Tensor, generator: torch.Generator) -> State:
        """Learn from `(n, d)` and `(n, m)` values of rows that have both, and their `(n,)` classes."""
        ...

    def transform(self, given: Tensor, labels: Tensor, state: State, generator: torch.Generator) -> Tensor:
        """Return `(rows, m)` values for rows that have only `given`. A class below 0 is not known."""
        ...
