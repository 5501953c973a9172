"""Keys of rows: packed texts, and the numbers that stand for them inside the simulation, alike at every party."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, cast, overload

import numpy as np
import pandas as pd
import pyarrow as pa
from pandas.util import hash_array

_hash = cast(Callable[..., np.ndarray], hash_array)

PERSON = b"vfl-platform key"
"""Keeps these digests apart from any other use of the same hash function."""

CHUNK = 2**16
"""Keys that are Python objects at once."""


class PackedKeys(Sequence[str]):
    """Many texts in little memory: one block of bytes instead of an object each."""

    def __init__(self, parts: Iterable[pd.Series | Sequence[str]]) -> None:
        arrays = [pa.array(part, pa.large_string()) for part in parts]
        self._texts: Any = pa.chunked_array(arrays, pa.large_string()).combine_chunks()

    def __len__(self) -> int:
        return len(self._texts)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> list[str]: ...
    def __getitem__(self, place: int | slice) -> str | list[str]:
        """Return one text, or a list of those of a slice."""
        return self._texts[place].to_pylist() if isinstance(place, slice) else self._texts[place].as_py()

    def __iter__(self) -> Iterator[str]:
        """Yield the texts, few of them objects at a time."""
        for start in range(0, len(self), CHUNK):
            yield from self[start : start + CHUNK]

    def take(self, places: np.ndarray) -> list[str]:
        """Return the texts at some places, `(k,)` int64."""
        return self._texts.take(pa.array(places)).to_pylist()

    def at(self, places: np.ndarray) -> PackedKeys:
        """Return the texts at some places, packed."""
        return PackedKeys([self._texts.take(pa.array(places))])

    def distinct(self) -> bool:
        """Whether no text comes twice: settled by 64-bit hashes, 8 bytes a text, unless two of them are the same."""
        hashes = np.empty(len(self), np.uint64)
        for start in range(0, len(self), CHUNK):
            texts = np.array(self[start : start + CHUNK], dtype=object)
            hashes[start : start + CHUNK] = _hash(texts, categorize=False)
        hashes.sort()
        return not bool((hashes[1:] == hashes[:-1]).any()) or len(np.unique(self.codes())) == len(self)

    def codes(self) -> np.ndarray:
        """Return `(n,)` int32 that are the same where the texts are the same."""
        return self._texts.dictionary_encode().indices.to_numpy()


def give_back() -> None:
    """Return to the system what packed keys that are gone took up; their allocator would keep it for others."""
    pa.default_memory_pool().release_unused()


def ids_of(keys: Iterable[str]) -> np.ndarray:
    """Return `(n,)` int64, at least 0: 63 bits of BLAKE2b of each key's UTF-8 text.

    Keys are compared as text, so `7` and `007` differ. Two different keys among n share an id with a chance of about
    n^2 / 2^64: 5e-6 for ten million. Aligners are given the keys themselves; the referee finds rows again by these.
    """
    parts, rest = [np.empty(0, np.int64)], iter(keys)
    while chunk := list(islice(rest, CHUNK)):
        digests = b"".join(hashlib.blake2b(key.encode(), digest_size=8, person=PERSON).digest() for key in chunk)
        parts.append((np.frombuffer(digests, "<u8") >> np.uint64(1)).astype(np.int64))
    return np.concatenate(parts)


def places(own: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return `(m,)` int64: where each wanted id stands in `own`, `(n,)` unique ids that hold them all."""
    sorter, order = np.argsort(own, kind="stable"), np.argsort(wanted, kind="stable")
    found = np.empty(len(wanted), np.int64)
    found[order] = sorter[np.searchsorted(own[sorter], wanted[order])]  # in order: a table's length stays out of caches
    return found
