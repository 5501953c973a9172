"""The round of aligners whose publishers offer a key for each row, which the advertiser compares with its own."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from vfl.align import Alignment, Ids
from vfl.align._ids import as_keys, require_unique
from vfl.align._matching import ABSENT, Matched, announce, find, refuse, settle
from vfl.exchange import NOTHING, Mail, Outgoing
from vfl.seeds import Seeds
from vfl.types import Hop, Kind, PartyId, Role, Step

HOPS = (
    Hop("offer", Role.PUBLISHER, "offer", gives=Kind.PSI),
    Hop("match", Role.ADVERTISER, "match", takes=("offer",), gives=Kind.PSI),
    Hop("settle", Role.PUBLISHER, "settle", takes=("match",)),
    Hop("admit", Role.REFEREE, "admit", takes=("match",)),
)

Encode = Callable[[Ids], Tensor]
"""Turns ids into the keys of an offer, `(n, width)`, int64 or uint8."""


class OfferPublisher:
    """Offers the keys of all its rows in table order, and is told the shared ones in handle order."""

    def __init__(self, ids: Ids, encode: Encode) -> None:
        require_unique(ids)
        self._ids, self._encode, self._rows = ids, encode, len(ids)
        self.alignment: Alignment | None = None

    def offer(self, step: Step, mail: Mail) -> Outgoing:
        """Send all keys, `(n, width)`."""
        return Outgoing(bodies={"advertiser": self._encode(self._ids)})

    def settle(self, step: Step, mail: Mail) -> Outgoing:
        """Keep the place of each shared row in this party's own table."""
        self._ids = ()
        self.alignment = settle(mail["advertiser"].body, torch.arange(self._rows))
        return NOTHING


class OfferAdvertiser:
    """Compares the offers with the keys of its own rows, and tells everyone the shared ones in handle order."""

    def __init__(self, ids: Ids, pools: Tensor, seeds: Seeds, encode: Encode) -> None:
        require_unique(ids)
        self._own, self._pools, self._seeds = encode(ids), pools, seeds
        self.alignment: Alignment | None = None

    def match(self, step: Step, mail: Mail) -> Outgoing:
        """Send the shared rows in handle order, `(shared, 2)`, to every publisher and the referee."""
        matched = self._compared(mail)
        self._own = torch.empty_like(self._own[:0])  # as large as all ids, and compared
        self.alignment, told = announce(matched, self._pools, self._seeds)
        return told

    def _compared(self, mail: Mail) -> Matched:
        for party, envelope in mail.items():
            if envelope.body.dtype != self._own.dtype:
                refuse(party, f"holds keys of {envelope.body.dtype}", str(self._own.dtype))
        own = as_keys(self._own.numpy())
        offers = {party: as_keys(envelope.body.numpy()) for party, envelope in mail.items()}
        places = {party: find(own, offer, party) for party, offer in offers.items()}
        strange = {party: _unmatched(offer, places[party]) for party, offer in offers.items()}
        return Matched(places, _outside(strange))


def _unmatched(offer: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return the offered keys that stand at no place of an own one."""
    strange = np.ones(len(offer), dtype=bool)
    strange[places[places != ABSENT]] = False
    return offer[strange]


def _outside(offers: dict[PartyId, np.ndarray]) -> dict[str, int]:
    """Count the keys that the advertiser does not hold, by the publishers that offer them, ids joined by `+`."""
    if not offers:
        return {}
    universe = np.unique(np.concatenate(list(offers.values())))
    names = np.array(list(offers))
    masks = np.stack([find(universe, offer, party) != ABSENT for party, offer in offers.items()], axis=1)
    kinds, counts = np.unique(masks, axis=0, return_counts=True)
    return {"+".join(names[kind]): int(count) for kind, count in zip(kinds, counts, strict=True)}
