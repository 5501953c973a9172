"""A multilayer perceptron at either side of the cut."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from vfl.models.tabular import Activation, TabularBottom, check_widths, logits, mlp
from vfl.types import Role, TableSchema


@dataclass(frozen=True, slots=True)
class Mlp:
    """Hidden layers between a party's columns and the cut; as a top, between the cut and the logits.

    `hidden` are the widths of the hidden layers (none is a linear model), `field_dim` the width of each categorical
    column's embedding. The last layer has no activation. A top with a hidden layer is what makes the gradients at the
    cut differ in direction from row to row; under a linear top they are multiples of one vector.
    """

    hidden: tuple[int, ...] = (64,)
    field_dim: int = 8
    activation: Activation = "relu"

    def __post_init__(self) -> None:
        check_widths(hidden=self.hidden, field_dim=self.field_dim)

    def bottom(self, schema: TableSchema, role: Role, width: int) -> nn.Module:
        """Return a module `Batch -> (rows, width)`; the role makes no difference."""
        return TabularBottom(schema, width, hidden=self.hidden, field_dim=self.field_dim, activation=self.activation)

    def top(self, width: int, classes: int) -> nn.Module:
        """Return a module `(rows, width) -> (rows, 1)` logits for two classes, `(rows, classes)` for more."""
        return mlp([width, *self.hidden, logits(classes)], self.activation)
