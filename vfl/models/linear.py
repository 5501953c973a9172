"""One linear layer at either side of the cut."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from vfl.models.tabular import TabularBottom, check_widths, logits, mlp
from vfl.types import Role, TableSchema


@dataclass(frozen=True, slots=True)
class Linear:
    """One linear layer: on a party's numbers and field embeddings, or, as a top, on the joined embeddings.

    `field_dim` is the width of each categorical column's embedding. Under a linear top with one logit, row i's
    gradient at the cut is `(p_i - y_i)` times one vector that the whole batch shares, so its norm and its sign give
    the label away: the worst case for label privacy, and FedAds' choice.
    """

    field_dim: int = 8

    def __post_init__(self) -> None:
        check_widths(field_dim=self.field_dim)

    def bottom(self, schema: TableSchema, role: Role, width: int) -> nn.Module:
        """Return a module `Batch -> (rows, width)`; the role makes no difference."""
        return TabularBottom(schema, width, field_dim=self.field_dim)

    def top(self, width: int, classes: int) -> nn.Module:
        """Return a module `(rows, width) -> (rows, 1)` logits for two classes, `(rows, classes)` for more."""
        return mlp([width, logits(classes)])
