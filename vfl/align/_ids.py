"""Row ids of any kind as canonical bytes, and as the rows of a message body."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from vfl.align import Ids
from vfl.errors import DataError

_LENGTH_BYTES = 4
_CHUNK = 4096


def canonical(ids: Ids, places: np.ndarray | None = None) -> Iterator[bytes]:
    """Yield the canonical bytes of the ids at some places, `(k,)` int64; of all in table order by default."""
    count = len(ids) if places is None else len(places)
    for start in range(0, count, _CHUNK):
        stop = min(start + _CHUNK, count)
        chosen = np.arange(start, stop) if places is None else places[start:stop]
        if isinstance(ids, Tensor):
            yield from [b"%d" % number for number in ids[torch.from_numpy(chosen)].tolist()]
        else:
            yield from map(_bytes, [ids[place] for place in chosen.tolist()])


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
    plain = list(canonical(ids))
    width = _LENGTH_BYTES + max(map(len, plain), default=0)
    rows = [(len(each).to_bytes(_LENGTH_BYTES, "big") + each).ljust(width, b"\0") for each in plain]
    return torch.frombuffer(bytearray(b"".join(rows)), dtype=torch.uint8).reshape(-1, width) if rows else _empty(width)


def as_keys(body: np.ndarray) -> np.ndarray:
    """Return a body's rows, `(n, width)` int64 or uint8, as `(n,)` values that numpy can sort and compare."""
    if body.dtype == np.int64:
        return body[:, 0]
    return np.ascontiguousarray(body).view(f"S{body.shape[1]}")[:, 0]


def _distinct_text(ids: Sequence[str] | Sequence[bytes]) -> bool:
    """Whether these are encodable and distinct, settled fast: whole lists at once, nothing row by row."""
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


def _empty(width: int) -> Tensor:
    return torch.empty(0, width, dtype=torch.uint8)
