"""Alignment by hashed ids: common, and unsafe."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from vfl.align import Ids
from vfl.align._ids import canonical
from vfl.align._offer import HOPS, OfferAdvertiser, OfferPublisher
from vfl.seeds import Seeds
from vfl.types import Hop, PartyId

DIGEST_BYTES = 32


@dataclass(frozen=True)
class SaltedHash:
    """UNSAFE: parties exchange salted hashes of their row ids, SHA-256(salt | id).

    Here to be measured, not used. Whoever holds the salt hashes a dictionary of likely ids (all telephone numbers, a
    leaked list of addresses) and reads off which of them a publisher holds, shared or not; both parties must hold the
    salt, so each can do this to the other's offer. It keeps ids from those without the salt and from nobody else.

    The advertiser learns as much as the ids that it can guess; each publisher learns which of its rows all share.
    """

    salt: str = "vfl"

    hops: ClassVar[tuple[Hop, ...]] = HOPS

    def answer_bytes(self, asked: int, listed: int) -> int:
        """Return how long an offer is: a digest for each of a publisher's ids."""
        return DIGEST_BYTES * listed

    def publisher(self, ids: Ids, seeds: Seeds) -> OfferPublisher:
        """Return a publisher's side."""
        return OfferPublisher(ids, self._digests)

    def advertiser(self, ids: Ids, pools: Tensor, seeds: Seeds, publishers: tuple[PartyId, ...]) -> OfferAdvertiser:
        """Return the advertiser's side."""
        return OfferAdvertiser(ids, pools, seeds, self._digests)

    def _digests(self, ids: Ids) -> Tensor:
        salted = hashlib.sha256(self.salt.encode())
        found = bytearray()
        for each in canonical(ids):
            digest = salted.copy()
            digest.update(each)
            found += digest.digest()
        return torch.frombuffer(found, dtype=torch.uint8).reshape(-1, DIGEST_BYTES) if found else _NO_DIGESTS


_NO_DIGESTS = torch.empty(0, DIGEST_BYTES, dtype=torch.uint8)
