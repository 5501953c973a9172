"""The mean of what the nearest rows have."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vfl.impute import State

CHUNK = 2048


@dataclass(frozen=True)
class Knn:
    """The mean embedding of the `neighbours` aligned rows nearest in what is given, by Euclidean distance.

    Reference: O. Troyanskaya, M. Cantor, G. Sherlock, P. Brown, T. Hastie, R. Tibshirani, D. Botstein, R. B. Altman,
    Missing value estimation methods for DNA microarrays, Bioinformatics 2001,
    https://doi.org/10.1093/bioinformatics/17.6.520 (neighbours count alike here; there nearer ones count more)
    """

    neighbours: int = 5

    def __post_init__(self) -> None:
        if self.neighbours < 1:
            raise ValueError(f"got neighbours={self.neighbours}, allowed 1 or more; raise it")

    @property
    def needs_labels(self) -> bool:
        """Never."""
        return False

    def fit(self, given: Tensor, missing: Tensor, labels: Tensor, generator: torch.Generator) -> State:
        """Keep both halves of the aligned rows."""
        return {"given": given.detach().clone(), "missing": missing.detach().clone()}

    def transform(self, given: Tensor, labels: Tensor, state: State, generator: torch.Generator) -> Tensor:
        """Return the neighbours' mean, `(rows, m)`; of all rows where there are fewer than `neighbours`."""
        count = min(self.neighbours, len(state["given"]))
        found = [
            state["missing"][torch.cdist(part, state["given"]).topk(count, largest=False).indices].mean(dim=1)
            for part in given.split(CHUNK)
        ]
        return torch.cat(found) if found else state["missing"][:0]
