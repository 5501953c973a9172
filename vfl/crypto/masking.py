"""Mask identifiers and points with a secret scalar, in a group where that commutes: what private matching rests on.

The group is P-256. Points are 32-byte x-coordinates, of which k(jP) = j(kP) holds without knowing either sign. Work is
done in chunks, so that beside the `(n, 32)` arrays themselves memory does not grow with n, and on several processes
where asked.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from functools import cache, partial
from itertools import islice
from multiprocessing import get_context, parent_process
from threading import Thread
from typing import TypeVar

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDH,
    SECP256R1,
    EllipticCurvePublicKey,
    derive_private_key,
)

from vfl.crypto.hash_to_curve import N, hash_to_field, x_candidates
from vfl.errors import WireError

POINT_BYTES = 32
CHUNK = 512
"""Identifiers or points that are worked on at once."""

AHEAD = 3
"""Chunks that lie with a helping process: the one at hand, and enough that it never waits for the next."""

P256_DST = b"VFL-PSI-V01-with-P256_XMD:SHA-256_SSWU_NU_"

_CURVE = SECP256R1()
_EXCHANGE = ECDH()
_EVEN = b"\2"

Chunk = TypeVar("Chunk", list[bytes], bytes)
"""Identifiers, or points one after the other: one block of bytes costs least on its way to another process."""


def mask_messages(secret: bytes, messages: Iterable[bytes], workers: int = 1) -> np.ndarray:
    """Hash each message to the group and multiply it by the secret; returns `(n, 32)` uint8 in the order given."""
    return _each(partial(_masked_messages, secret), _chunks(messages), workers)


def mask_points(secret: bytes, points: np.ndarray, workers: int = 1) -> np.ndarray:
    """Multiply each point, `(n, 32)` uint8, by the secret; returns `(n, 32)` uint8 in the order given.

    Raises `WireError` for bytes that are no point of the group: off the curve, or not reduced.
    """
    return _each(partial(_masked_points, secret), _blocks(points), workers)


def digest_points(secret: bytes, points: np.ndarray, workers: int = 1) -> np.ndarray:
    """Return the SHA-256 of each point of `mask_points`, `(n, 32)` uint8; raises as it does."""
    return _each(partial(_point_digests, secret), _blocks(points), workers)


def p256_scalar(secret: bytes) -> int:
    """Return the scalar, 1 to N - 1, that 64 secret bytes stand for."""
    return int.from_bytes(secret, "big") % (N - 1) + 1


def _each(mask: Callable[[Chunk], bytes], chunks: Iterator[Chunk], workers: int) -> np.ndarray:
    done = map(mask, chunks) if workers == 1 else _side_by_side(workers - 1, mask, chunks)
    parts = [np.frombuffer(bytearray(part), dtype=np.uint8) for part in done]
    return np.concatenate([np.empty(0, np.uint8), *parts]).reshape(-1, POINT_BYTES)


def _chunks(items: Iterable[bytes]) -> Iterator[list[bytes]]:
    stream = iter(items)
    while chunk := list(islice(stream, CHUNK)):
        yield chunk


def _blocks(points: np.ndarray) -> Iterator[bytes]:
    return (points[start : start + CHUNK].tobytes() for start in range(0, len(points), CHUNK))


def _split(block: bytes) -> list[bytes]:
    return [block[start : start + POINT_BYTES] for start in range(0, len(block), POINT_BYTES)]


def _side_by_side(helpers: int, mask: Callable[[Chunk], bytes], chunks: Iterator[Chunk]) -> Iterator[bytes]:
    """Yield what `map` would, this process at work beside its helpers, so that none of them waits for it.

    A chunk goes to a helper while fewer than `AHEAD` of them lie there for each. What is left at the end is shared
    out: a helper gets none that this process would be done with before the helper came to it.
    """
    pool, ahead = _pool(helpers), AHEAD * helpers
    waiting = deque(islice(chunks, ahead + 1))
    begun: deque[Future[bytes]] = deque()
    while waiting:
        busy = sum(not each.done() for each in begun)
        chunk = waiting.popleft()
        begun.append(pool.submit(mask, chunk) if busy < min(ahead, len(waiting) * helpers) else _done(mask(chunk)))
        waiting.extend(islice(chunks, 1))
        while begun and begun[0].done():
            yield begun.popleft().result()
    yield from (each.result() for each in begun)


def _done(result: bytes) -> Future[bytes]:
    future: Future[bytes] = Future()
    future.set_result(result)
    return future


@cache  # one for each number of helpers: none is dropped with its processes at work
def _pool(helpers: int) -> ProcessPoolExecutor:
    """Return helping processes; they stay for the life of this one, as their start takes longer than a chunk."""
    return ProcessPoolExecutor(helpers, mp_context=get_context("spawn"), initializer=_end_with_parent)


def _end_with_parent() -> None:
    """Have this worker end when its parent is gone: the pool tells its workers of an orderly end only."""
    Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(0)


def _masked_points(secret: bytes, block: bytes) -> bytes:
    return b"".join(_multiplied(secret, _split(block)))


def _point_digests(secret: bytes, block: bytes) -> bytes:
    return b"".join([hashlib.sha256(point).digest() for point in _multiplied(secret, _split(block))])


def _masked_messages(secret: bytes, messages: Sequence[bytes]) -> bytes:
    """Take the first x-coordinate that has a point, else the second: OpenSSL looks for the root."""
    multiply, load = _multiply(secret), EllipticCurvePublicKey.from_encoded_point
    masked: list[bytes] = []
    for first, second in x_candidates([hash_to_field(message, P256_DST) for message in messages]):
        try:
            point = load(_CURVE, _EVEN + first.to_bytes(POINT_BYTES, "big"))
        except ValueError:
            point = load(_CURVE, _EVEN + second.to_bytes(POINT_BYTES, "big"))
        masked.append(multiply(point))
    return b"".join(masked)


def _multiplied(secret: bytes, points: Sequence[bytes]) -> list[bytes]:
    multiply, load = _multiply(secret), EllipticCurvePublicKey.from_encoded_point
    try:
        return [multiply(load(_CURVE, _EVEN + point)) for point in points]
    except ValueError:
        raise WireError(
            "got a point that is not on P-256, allowed x-coordinates of its points; refuse this peer"
        ) from None


def _multiply(secret: bytes) -> Callable[[EllipticCurvePublicKey], bytes]:
    return partial(derive_private_key(p256_scalar(secret), _CURVE).exchange, _EXCHANGE)
