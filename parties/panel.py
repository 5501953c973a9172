"""Rows of another party that the threat model grants: which they are, and, for attacks in training, what they hold."""

from __future__ import annotations

import torch
from torch import Tensor

from parties.spec import Panel
from parties.table import encode
from vfl.data.encode import EncodeOptions
from vfl.data.keys import places
from vfl.data.shard import load_features
from vfl.seeds import Seeds
from vfl.types import Batch


def known_handles(train: int, rows: int | None, seeds: Seeds) -> Tensor:
    """Return the sorted handles of `rows` of the `train` training rows, or of all of them, by the stream of grants."""
    return torch.randperm(train, generator=seeds.torch("known"))[: train if rows is None else rows].sort().values


def panel(asked: Panel, ids: Tensor, train: int) -> Batch:
    """Return the granted rows as their party encodes them, by handle; `ids` `(n,)` are those of the aligned rows.

    Built-in sets alone: there every party knows the same ids, and a training row is aligned or left over by them.
    """
    local = load_features(asked.shard)
    order = torch.from_numpy(places(local.ids, ids.numpy()))
    left = torch.ones(local.rows, dtype=torch.bool)
    left[order] = False
    training = torch.cat([order[:train], left.nonzero()[:, 0]]).sort().values
    _, table = encode(local, training, EncodeOptions(**asked.encoding))
    rows = known_handles(train, asked.rows, asked.seeds)
    return Batch(rows, *table.take(order[rows]))
