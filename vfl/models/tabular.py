"""The network under every bottom here: one embedding table for all categorical columns, then layers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from vfl.types import Batch, TableSchema

Activation = Literal["relu", "leaky_relu"]


class TabularBottom(nn.Module):
    """Turns a batch of one party's columns into its embedding, `(rows, width)`.

    Ids of all categorical columns share one table, each column from its own offset; ids must lie below the sizes of
    the schema, as the encoder's do. `layers` then sees the numeric columns first and the fields after them,
    `(rows, p + f * field_dim)`. Made of `nn.Embedding` on `(rows, f)` ids and `nn.Linear` only, and row i of the
    output depends on row i alone, so per-sample gradients (Opacus) exist.
    """

    offsets: Tensor

    def __init__(
        self,
        schema: TableSchema,
        width: int,
        *,
        hidden: Sequence[int] = (),
        field_dim: int = 8,
        activation: Activation = "relu",
    ) -> None:
        """Draw the weights from torch's current stream. Raises `ValueError` for a schema without columns."""
        super().__init__()
        if not schema.columns:
            raise ValueError("got a party without columns, allowed one or more; name some in split")
        self.has_numeric = bool(schema.numeric)
        self.table = nn.Embedding(sum(schema.sizes), field_dim) if schema.categorical else None
        offsets = torch.tensor(list(accumulate(schema.sizes[:-1], initial=0)), dtype=torch.int64)
        self.register_buffer("offsets", offsets, persistent=False)
        self.layers = mlp([len(schema.numeric) + len(schema.categorical) * field_dim, *hidden, width], activation)

    def forward(self, batch: Batch) -> Tensor:
        """Return the `(rows, width)` embedding; without categorical columns this is `layers(batch.numeric)`."""
        if self.table is None:
            return self.layers(batch.numeric)
        fields = self.table(batch.categorical + self.offsets).flatten(1)
        return self.layers(torch.cat([batch.numeric, fields], dim=1) if self.has_numeric else fields)


def mlp(widths: Sequence[int], activation: Activation = "relu") -> nn.Sequential:
    """Return linear layers from `widths[0]` to `widths[-1]`, with the activation between them and none at the end.

    A leaky ReLU lets 1 % of a negative value through, torch's default.
    """
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.ReLU() if activation == "relu" else nn.LeakyReLU()]
    return nn.Sequential(*layers[:-1])


def logits(classes: int) -> int:
    """Return how many logits a top gives: one for two classes, otherwise one a class.

    Raises `ValueError` below two.
    """
    if classes < 2:
        raise ValueError(f"got {classes} classes, allowed 2 or more; check the label column")
    return 1 if classes == 2 else classes


def check_widths(**options: int | Sequence[int]) -> None:
    """Raise `ValueError` for the first option that is not a width, or widths, of at least 1."""
    for name, value in options.items():
        if any(width < 1 for width in ([value] if isinstance(value, int) else value)):
            raise ValueError(f"got {name}={value}, allowed 1 or more; raise it")
