"""Row ids of any kind as canonical bytes, and as the rows of a message body."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

import numpy as np
import torch
from torch import Tensor

from vfl.align import Ids, Packed
from vfl.errors import DataError

_LENGTH_BYTES = 4
_CHUNK = 4096


def canonical(ids: Ids, places: np.ndarray | None = None) -> Iterator[bytes]:
    """Yield the canonical bytes of the ids at some places, `(k,)` int64; of all in table order by default."""
    return chain.from_iterable(_chunks(ids, places))


def require_unique(ids: Ids) -> None:
    """Raise `DataError`, naming the id and its first two rows, where an id stands twice or cannot be encoded."""
    if len(torch.unique(ids)) == len(ids) if isinstance(ids, Tensor) else _distinct_text(ids):
        return
    seen: dict[bytes, int] = {}
    for row, each in enumerate(canonical(ids)):
        first = seen.setdefault(each, row)
        if first != row:
            raise DataError(f"got the id {_shown(each)} in rows {first} and {row}, allowed once; remove one of them")


def as_body(ids: Ids) -> Tensor:
    """Return ids in the clear as a message body: `(n, 1)` int64, or `(n, 4 + longest)` uint8 behind their lengths."""
    if isinstance(ids, Tensor):
        return ids[:, None]
    longest = max((max(map(len, chunk)) for chunk in _chunks(ids)), default=0)
    body, start = np.zeros((len(ids), _LENGTH_BYTES + longest), np.uint8), 0
    for chunk in _chunks(ids):
        rows = body[start : start + len(chunk)]
        rows[:, :_LENGTH_BYTES] = np.array(list(map(len, chunk)), ">u4").view(np.uint8).reshape(-1, _LENGTH_BYTES)
        if longest:
            rows[:, _LENGTH_BYTES:] = np.array(chunk, f"S{longest}").view(np.uint8).reshape(-1, longest)
        start += len(chunk)
    return torch.from_numpy(body)


def as_keys(body: np.ndarray) -> np.ndarray:
    """Return a body's rows, `(n, width)` int64 or uint8, as `(n,)` values that numpy can sort and compare."""
    if body.dtype == np.int64:
        return body[:, 0]
    return np.ascontiguousarray(body).view(f"S{body.shape[1]}")[:, 0]


def _chunks(ids: Ids, places: np.ndarray | None = None) -> Iterator[list[bytes]]:
    count = len(ids) if places is None else len(places)
    for start in range(0, count, _CHUNK):
        stop = min(start + _CHUNK, count)
        chosen = np.arange(start, stop) if places is None else places[start:stop]
        if isinstance(ids, Tensor):
            yield [b"%d" % number for number in ids[torch.from_numpy(chosen)].tolist()]
        elif isinstance(ids, Packed):
            yield [text.encode() for text in ids.take(chosen)]
        else:
            yield [_bytes(ids[place]) for place in chosen.tolist()]


def _distinct_text(ids: Sequence[str] | Sequence[bytes]) -> bool:
    """Whether these are encodable and distinct, settled fast: whole lists at once, nothing row by row."""
    if isinstance(ids, Packed):
        return ids.distinct()
    if len(set(ids)) != len(ids):
        return False
    try:
        "".join(each for each in ids if isinstance(each, str)).encode()
    except UnicodeEncodeError:
        return False
    return True


def _bytes(each: str | bytes) -> bytes:
    if isinstance(each, bytes):
        return each
    try:
        return each.encode()
    except UnicodeEncodeError:
        raise DataError(f"got the id {each!r}, allowed text that UTF-8 can encode; mend or drop the row") from None


def _shown(each: bytes) -> str:
    return repr(each.decode(errors="backslashreplace"))
