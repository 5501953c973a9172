"""Alignment in the clear: parties exchange their row ids."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from vfl.align import Alignment
from vfl.errors import WireError
from vfl.exchange import NOTHING, Mail, Outgoing
from vfl.seeds import Seeds
from vfl.types import Hop, Kind, PartyId, Role, Step

HOPS = (
    Hop("offer", Role.PUBLISHER, "offer", gives=Kind.PSI),
    Hop("match", Role.ADVERTISER, "match", takes=("offer",), gives=Kind.PSI),
    Hop("settle", Role.PUBLISHER, "settle", takes=("match",)),
    Hop("admit", Role.REFEREE, "admit", takes=("match",)),
)


@dataclass(frozen=True)
class Plain:
    """Parties exchange their row ids in the clear, for data that is aligned by construction and for speed.

    The advertiser learns every publisher's ids; each publisher learns which rows all parties share. Handles number the
    shared rows in an order that the advertiser draws afresh each run, training rows first, then validation, then test.
    """

    hops: ClassVar[tuple[Hop, ...]] = HOPS

    def publisher(self, ids: Tensor, seeds: Seeds) -> PlainPublisher:
        """Return a publisher's side."""
        return PlainPublisher(ids)

    def advertiser(self, ids: Tensor, pools: Tensor, seeds: Seeds, publishers: tuple[PartyId, ...]) -> PlainAdvertiser:
        """Return the advertiser's side."""
        return PlainAdvertiser(ids, pools, seeds, publishers)


class PlainPublisher:
    """Offers all ids, and is told the shared ones in handle order."""

    def __init__(self, ids: Tensor) -> None:
        self._ids = ids
        self.alignment: Alignment | None = None

    def offer(self, step: Step, mail: Mail) -> Outgoing:
        """Send all ids, `(n, 1)`."""
        return Outgoing(bodies={"advertiser": self._ids[:, None]})

    def settle(self, step: Step, mail: Mail) -> Outgoing:
        """Keep the place of each shared row in this party's own table."""
        shared = mail["advertiser"].body
        self.alignment = locate(self._ids, shared[:, 0], shared[:, 1])
        return NOTHING


class PlainAdvertiser:
    """Intersects the offers with its own ids, shuffles within each pool, and tells everyone the order."""

    def __init__(self, ids: Tensor, pools: Tensor, seeds: Seeds, publishers: tuple[PartyId, ...]) -> None:
        self._ids, self._pools, self._seeds, self._publishers = ids, pools, seeds, publishers
        self.alignment: Alignment | None = None

    def match(self, step: Step, mail: Mail) -> Outgoing:
        """Send the shared ids and their pools in handle order, `(shared, 2)`, to every publisher and the referee."""
        offers = {party: envelope.body[:, 0].numpy() for party, envelope in mail.items()}
        holds = {party: np.isin(self._ids.numpy(), offer) for party, offer in offers.items()}
        shared = np.logical_and.reduce([np.ones(len(self._ids), dtype=bool), *holds.values()])
        order = handle_order(torch.from_numpy(np.flatnonzero(shared)), self._pools, self._seeds)
        body = torch.stack([self._ids[order], self._pools[order]], dim=1)
        self.alignment = locate(self._ids, body[:, 0], body[:, 1], who_holds(self._ids.numpy(), offers, shared))
        return Outgoing(bodies=dict.fromkeys((*self._publishers, "referee"), body))


def handle_order(rows: Tensor, pools: Tensor, seeds: Seeds) -> Tensor:
    """Return the rows sorted by pool and shuffled within each, so that handles say nothing of the original order."""
    shuffled = rows[torch.randperm(len(rows), generator=seeds.torch("handles"))]
    return shuffled[torch.argsort(pools[shuffled], stable=True)]


def locate(ids: Tensor, shared: Tensor, pools: Tensor, held: dict[str, int] | None = None) -> Alignment:
    """Return the alignment of a party that holds `ids` and knows the shared ones in handle order.

    Raises `WireError` where it was told of a row that it does not hold.
    """
    if not bool(torch.isin(shared, ids).all()):
        raise WireError("was told that rows are shared which this party does not hold; the other side is at fault")
    sorter = torch.argsort(ids)
    order = sorter[torch.searchsorted(ids[sorter], shared.contiguous())]
    alone = torch.ones(len(ids), dtype=torch.bool)
    alone[order] = False
    train, valid, test = (int((pools == code).sum()) for code in range(3))
    return Alignment(order, train, valid, test, torch.nonzero(alone)[:, 0], held or {})


def who_holds(own: np.ndarray, offers: dict[PartyId, np.ndarray], shared: np.ndarray) -> dict[str, int]:
    """Count the rows that are not shared by all, by the parties that hold them, ids joined by `+`."""
    everyone = {"advertiser": own, **offers}
    universe = np.unique(np.concatenate(list(everyone.values())))
    universe = universe[~np.isin(universe, own[shared])]
    names = np.array(list(everyone))
    masks = np.stack([np.isin(universe, ids) for ids in everyone.values()], axis=1)
    kinds, counts = np.unique(masks, axis=0, return_counts=True)
    return {"+".join(names[kind]): int(count) for kind, count in zip(kinds, counts, strict=True)}
