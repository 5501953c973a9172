"""What stands for a key inside the simulation: 63 bits of a digest, alike at every party, whatever the key's text."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np

PERSON = b"vfl-platform key"
"""Keeps these digests apart from any other use of the same hash function."""


def ids_of(keys: Iterable[str]) -> np.ndarray:
    """Return `(n,)` int64, at least 0: 63 bits of BLAKE2b of each key's UTF-8 text.

    Keys are compared as text, so `7` and `007` differ. Two different keys among n share an id with a chance of about
    n^2 / 2^64: 5e-6 for ten million. Aligners are given the keys themselves; the referee finds rows again by these.
    """
    digests = b"".join(hashlib.blake2b(key.encode(), digest_size=8, person=PERSON).digest() for key in keys)
    return (np.frombuffer(digests, "<u8") >> np.uint64(1)).astype(np.int64)


def places(own: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return `(m,)` int64: where each wanted id stands in `own`, `(n,)` unique ids that hold them all."""
    sorter = np.argsort(own, kind="stable")
    return sorter[np.searchsorted(own, wanted, sorter=sorter)]
