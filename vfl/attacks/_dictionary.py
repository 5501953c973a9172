"""The dictionary attack on hashed ids: whoever holds the salt hashes all likely ids and looks them up."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from vfl.transcript import AdversaryView
from vfl.types import Kind


def recover_ids(view: AdversaryView, candidates: Iterable[str], salt: str) -> set[str]:
    """Return the candidates whose SHA-256(salt | id) the view's parties received while rows were aligned.

    `candidates` is what the attacker knows of the id space, `salt` what it must hold to take part at all. On offers of
    `salted_hash` this finds every candidate that a publisher holds, shared or not; on `ecdh_psi` none, as its messages
    depend on a scalar that the attacker does not hold.
    """
    offers = [envelope.body.numpy() for envelope in view.received if envelope.kind == Kind.PSI]
    seen = {row.tobytes() for offer in offers for row in offer}
    salted = salt.encode()
    return {each for each in candidates if hashlib.sha256(salted + each.encode()).digest() in seen}
