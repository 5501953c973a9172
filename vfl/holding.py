"""A party's encoded table in one safetensors file: what it may look up itself after a run, and the referee marks by."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from vfl import checkpoint
from vfl.types import Batch, TableSchema

TABLE_FILE = "own.safetensors"


def save_table(path: Path, batch: Batch, schema: TableSchema, modules: Mapping[str, Tensor] | None = None) -> None:
    """Write rows of a table, without labels, and tensors of networks beside them."""
    tensors = {"rows": batch.rows, "numeric": batch.numeric, "categorical": batch.categorical, **(modules or {})}
    facts = {"numeric": schema.numeric, "categorical": schema.categorical, "sizes": schema.sizes}
    checkpoint.save(path, {name: value.contiguous() for name, value in tensors.items()}, facts)


def load_table(path: Path) -> tuple[Batch, TableSchema, dict[str, Tensor]]:
    """Return what `save_table` wrote: rows, schema, and tensors of networks; raises `DataError` if it is not whole."""
    tensors, facts = checkpoint.load(path)
    schema = TableSchema(*(tuple(facts[name]) for name in ("numeric", "categorical", "sizes")))
    batch = Batch(tensors.pop("rows"), tensors.pop("numeric"), tensors.pop("categorical"))
    return batch, schema, tensors


def column_values(batch: Batch, schema: TableSchema, columns: tuple[str, ...]) -> Tensor:
    """Return the `(rows, columns)` encoded values of some columns, category ids as numbers."""
    found = {name: batch.numeric[:, place] for place, name in enumerate(schema.numeric)}
    found.update({name: batch.categorical[:, place].float() for place, name in enumerate(schema.categorical)})
    return torch.stack([found[name] for name in columns], dim=1)
