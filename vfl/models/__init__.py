"""Networks at either side of the cut: bottoms turn a batch into an embedding, tops fuse embeddings into logits."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn

from vfl.types import Batch, Role, TableSchema


class Model(Protocol):
    """A frozen dataclass of sizes that builds the two kinds of network; initialisers draw from the caller's stream."""

    def bottom(self, schema: TableSchema, role: Role, width: int) -> nn.Module:
        """Return a module `Batch -> (rows, width)` for one party's columns."""
        ...

    def top(self, width: int, classes: int) -> nn.Module:
        """Return a module `(rows, width) -> (rows, 1)` logits for two classes, `(rows, classes)` for more."""
        ...


class Bottom(Protocol):
    """A bottom network as methods call it."""

    def __call__(self, batch: Batch) -> Tensor:
        """Return the `(rows, width)` embedding of a batch."""
        ...
