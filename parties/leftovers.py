"""The referee's knowledge of rows that only one party holds, and what it says of pseudo-labels given to them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from parties.referee import NOTES_FILE
from parties.rows import leftover_base, leftover_order
from parties.spec import PartySpec
from vfl import checkpoint
from vfl.data.cut import TRAIN, Shard
from vfl.data.shard import load_ids, open_source
from vfl.referee import Truth

LEFTOVER_FILE = "leftover.safetensors"


def write_leftover(specs: Sequence[PartySpec], folder: str, ids: Tensor) -> None:
    """Write the class of every leftover handle to the referee's folder; `ids` are the aligned source rows, `(n,)`."""
    found = [_leftover(spec, ids) for spec in specs]
    handles, labels = (torch.cat(parts) for parts in zip(*found, strict=True))
    order = torch.argsort(handles)
    tensors = {"handles": handles[order], "labels": labels[order]}
    checkpoint.save(Path(folder) / LEFTOVER_FILE, tensors, {})


def read_leftover(folder: str) -> tuple[Tensor, Tensor]:
    """Return sorted leftover handles and their classes; empty before a run has ended."""
    path = Path(folder) / LEFTOVER_FILE
    if not path.exists():
        empty = torch.empty(0, dtype=torch.int64)
        return empty, empty
    tensors, _ = checkpoint.load(path)
    return tensors["handles"], tensors["labels"]


def pseudo_labels(truth: Truth, folder: str) -> dict[str, float | None]:
    """Return how right the last pseudo-labels of a method were, among the rows it trained on and among the others.

    Precision is the share of pseudo-labels that are the true class; `None` of no rows. A method that noted none has no
    such figures.
    """
    path = Path(folder) / NOTES_FILE
    if not path.exists():
        return {}
    tensors, _ = checkpoint.load(path)
    right = (tensors["classes"] == truth.of(tensors["rows"])).float()
    selected = tensors["selected"].bool()
    figures: dict[str, float | None] = {}
    for name, mask in (("selected", selected), ("rejected", ~selected)):
        figures[name] = int(mask.sum())
        figures[f"precision_{name}"] = right[mask].mean().item() if bool(mask.any()) else None
    return figures


def _leftover(spec: PartySpec, ids: Tensor) -> tuple[Tensor, Tensor]:
    shard = cast(Shard, spec.shard)
    own = torch.from_numpy(load_ids(shard))
    only = own[~torch.isin(own, ids)]
    rows = only[leftover_order(len(only), spec.seeds)]
    root = None if shard.root is None else Path(shard.root)
    labels = torch.from_numpy(open_source(shard).labels(root).copy())[rows]
    labels[torch.from_numpy(shard.cut.pools())[rows] != TRAIN] = -1
    handles = torch.arange(len(rows)) + leftover_base(spec.roster.ids().index(spec.party))
    return handles, labels
