"""The referee's knowledge of rows that only one party holds, and what it says of pseudo-labels given to them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from parties.referee import NOTES_FILE
from parties.rows import leftover_base, leftover_order
from parties.settle import Settled, leftover
from parties.spec import PartySpec
from vfl import checkpoint
from vfl.data.cut import Shard
from vfl.data.shard import labels_of, load_ids
from vfl.referee import Truth
from vfl.types import Role

LEFTOVER_FILE = "leftover.safetensors"


def write_leftover(specs: Sequence[PartySpec], folder: str, found: Settled) -> None:
    """Write the class of every leftover handle to the referee's folder; `found` are the rows that are aligned."""
    advertiser = next(cast(Shard, spec.shard) for spec in specs if spec.role == Role.ADVERTISER)
    pairs = [_leftover(spec, advertiser, found) for spec in specs]
    handles, labels = (torch.cat(parts) for parts in zip(*pairs, strict=True))
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

    Precision is the share of pseudo-labels that are the true class, of rows that have one; `None` of no rows. A method
    that noted none has no such figures.
    """
    path = Path(folder) / NOTES_FILE
    if not path.exists():
        return {}
    tensors, _ = checkpoint.load(path)
    true = truth.of(tensors["rows"])
    right, known = (tensors["classes"] == true).float(), true >= 0
    selected = tensors["selected"].bool()
    figures: dict[str, float | None] = {}
    for name, mask in (("selected", selected), ("rejected", ~selected)):
        figures[name] = int(mask.sum())
        figures[f"precision_{name}"] = right[mask & known].mean().item() if bool((mask & known).any()) else None
    return figures


def _leftover(spec: PartySpec, advertiser: Shard, found: Settled) -> tuple[Tensor, Tensor]:
    """Return a party's leftover handles and their classes, -1 where the advertiser has no such row either."""
    shard = cast(Shard, spec.shard)
    own = torch.from_numpy(load_ids(shard))
    only = own[leftover(shard, own, found)]
    ids = only[leftover_order(len(only), spec.seeds)]
    known = torch.isin(ids, torch.from_numpy(load_ids(advertiser))) | torch.tensor(not advertiser.keyed)
    labels = torch.full((len(ids),), -1)
    if bool(known.any()):
        labels[known] = torch.from_numpy(labels_of(advertiser, ids[known].numpy()).copy())
    return torch.arange(len(ids)) + leftover_base(spec.roster.ids().index(spec.party)), labels
