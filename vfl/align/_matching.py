"""What all aligners do once each publisher's offer can be compared with the advertiser's rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
import torch
from torch import Tensor

from vfl.align import Alignment
from vfl.errors import WireError
from vfl.exchange import OneByOne, Outgoing
from vfl.seeds import Seeds
from vfl.types import REFEREE, PartyId

ABSENT = -1
"""In `find`, the place of a key that is not there."""

_CHUNK = 2**20
"""Keys that are looked up at once."""


@dataclass(frozen=True, slots=True)
class Matched:
    """What the advertiser found out: where each of its rows stands in each publisher's offer, and what else is there.

    `places` are `(n,)` int64, `ABSENT` where the publisher does not hold the row. `outside` counts rows that the
    advertiser does not hold, by who does, as far as it can tell.
    """

    places: Mapping[PartyId, np.ndarray]
    outside: Mapping[str, int]


def find(wanted: np.ndarray, offered: np.ndarray, sender: str) -> np.ndarray:
    """Return the `(n,)` place in `offered` of each wanted key; raises `WireError` where an offered key stands twice."""
    sorter = np.argsort(offered, kind="stable")
    ranked = offered[sorter]
    if bool((ranked[1:] == ranked[:-1]).any()):
        refuse(sender, "holds an entry twice", "each once")
    found = np.full(len(wanted), ABSENT, np.int64)
    for start in range(0, len(wanted) if len(ranked) else 0, _CHUNK):
        part = wanted[start : start + _CHUNK]
        ranks = np.minimum(np.searchsorted(ranked, part), len(ranked) - 1)
        held = ranked[ranks] == part
        found[start : start + _CHUNK][held] = sorter[ranks[held]]
    return found


def announce(matched: Matched, pools: Tensor, seeds: Seeds) -> tuple[Alignment, Outgoing]:
    """Return the advertiser's alignment, and the message that tells everyone theirs in handle order.

    A publisher gets `(shared, 2)` int64: places in its own offer, and pools. The referee gets rows of the advertiser's
    table instead of places.
    """
    holds = {party: places != ABSENT for party, places in matched.places.items()}
    shared = np.logical_and.reduce([np.ones(len(pools), dtype=bool), *holds.values()])
    order = handle_order(torch.from_numpy(np.flatnonzero(shared)), pools, seeds)
    their_pools = pools[order]
    held = Counter(_held(shared, holds)) + Counter(matched.outside)
    only = torch.from_numpy(np.flatnonzero(~shared))
    alignment = Alignment(order, *_sizes(their_pools), only, dict(held))

    def told(party: PartyId) -> Tensor:
        body = torch.empty((len(order), 2), dtype=torch.int64)
        body[:, 0] = order if party == REFEREE else torch.from_numpy(matched.places[party])[order]
        body[:, 1] = their_pools
        return body

    return alignment, Outgoing(bodies=OneByOne([*matched.places, REFEREE], told))


def handle_order(rows: Tensor, pools: Tensor, seeds: Seeds) -> Tensor:
    """Return the rows sorted by pool and shuffled within each, so that handles say nothing of the original order."""
    shuffled = rows[torch.randperm(len(rows), generator=seeds.torch("handles"))]
    return shuffled[torch.argsort(pools[shuffled], stable=True)]


def settle(announced: Tensor, rows: Tensor) -> Alignment:
    """Return a publisher's alignment from what the advertiser announced, `(shared, 2)` int64.

    `rows`, `(offered,)` int64, are the rows of its own table in the order it offered them. Raises `WireError` for
    places that were not offered or come twice, and pools out of order.
    """
    if announced.dtype != torch.int64 or announced.ndim != 2 or announced.shape[1] != 2:
        refuse("advertiser", f"is {announced.dtype} of shape {tuple(announced.shape)}", "(shared, 2) int64")
    places, pools = announced.unbind(dim=1)  # views: these are as long as a table
    if bool(((places < 0) | (places >= len(rows))).any()):
        refuse("advertiser", "names a place that was not offered", f"0 to {len(rows) - 1}")
    order = rows[places]
    shared = torch.zeros(len(rows), dtype=torch.bool)
    shared[order] = True
    if int(shared.sum()) != len(order):
        refuse("advertiser", "names a place twice", "each once")
    if bool(((pools < 0) | (pools > 2)).any()) or bool((pools.to(torch.int8).diff() < 0).any()):
        refuse("advertiser", "has pools out of range or order", "0, 1 and 2, ascending")
    return Alignment(order, *_sizes(pools), torch.nonzero(~shared)[:, 0])


def refuse(sender: str, got: str, allowed: str) -> NoReturn:
    """Raise `WireError` for an alignment message that was tampered with, replayed, or sent by a faulty peer."""
    raise WireError(f"the alignment message of {sender} {got}, allowed {allowed}; align again with a peer you trust")


def _sizes(pools: Tensor) -> tuple[int, int, int]:
    train, valid, test = (int((pools == code).sum()) for code in range(3))
    return train, valid, test


def _held(shared: np.ndarray, holds: Mapping[PartyId, np.ndarray]) -> dict[str, int]:
    """Count the advertiser's rows that not all hold, by the parties that do, ids joined by `+`."""
    names = np.array(["advertiser", *holds])
    masks = np.stack([np.ones(len(shared), dtype=bool), *holds.values()], axis=1)[~shared]
    kinds, counts = np.unique(masks, axis=0, return_counts=True)
    return {"+".join(names[kind]): int(count) for kind, count in zip(kinds, counts, strict=True)}
