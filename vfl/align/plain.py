"""Alignment in the clear: parties exchange their row ids."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from vfl.align import Ids
from vfl.align._ids import as_body
from vfl.align._offer import HOPS, OfferAdvertiser, OfferPublisher
from vfl.seeds import Seeds
from vfl.types import Hop, PartyId


@dataclass(frozen=True)
class Plain:
    """Parties exchange their row ids in the clear, for data that is aligned by construction and for speed.

    The advertiser learns every publisher's ids; each publisher learns which of its rows all parties share. Handles
    number the shared rows in an order that the advertiser draws afresh each run, training rows first, then validation,
    then test. All parties' ids must be of one kind: numbers, or text.
    """

    hops: ClassVar[tuple[Hop, ...]] = HOPS

    def publisher(self, ids: Ids, seeds: Seeds) -> OfferPublisher:
        """Return a publisher's side."""
        return OfferPublisher(ids, as_body)

    def advertiser(self, ids: Ids, pools: Tensor, seeds: Seeds, publishers: tuple[PartyId, ...]) -> OfferAdvertiser:
        """Return the advertiser's side."""
        return OfferAdvertiser(ids, pools, seeds, as_body)
