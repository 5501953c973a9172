"""Messages as plain bytes, between two processes of one party: a JSON header, then the bytes of every array. No pickle.

What is read here comes from this party's own processes; it is checked as if it did not.
"""

from __future__ import annotations

import json
import math
import socket
from typing import Any

from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict

from vfl.errors import WireError

LONGEST = 2**31
_SIZE_BYTES = 8
_BYTES = "bytes:"


def pack(content: RecordDict, facts: dict[str, Any] | None = None) -> bytes:
    """Return message content, and facts that JSON can hold, as bytes."""
    arrays: list[list[Any]] = []
    bodies: list[bytes] = []
    for key, record in content.array_records.items():
        for name, array in record.items():
            arrays.append([key, name, array.dtype, list(array.shape), array.stype, len(array.data)])
            bodies.append(array.data)
    configs = {
        key: {name: _plain(value) for name, value in each.items()} for key, each in content.config_records.items()
    }
    metrics = {key: dict(each) for key, each in content.metric_records.items()}
    header = json.dumps({"facts": facts or {}, "arrays": arrays, "configs": configs, "metrics": metrics}).encode()
    return b"".join([len(header).to_bytes(_SIZE_BYTES, "little"), header, *bodies])


def unpack(data: bytes) -> tuple[RecordDict, dict[str, Any]]:
    """Return content and facts from bytes that `pack` wrote; raises `WireError` for any others."""
    try:
        size = int.from_bytes(data[:_SIZE_BYTES], "little")
        header = json.loads(data[_SIZE_BYTES : _SIZE_BYTES + size])
        at, records = _SIZE_BYTES + size, dict[str, dict[str, Array]]()
        for key, name, dtype, shape, stype, length in header["arrays"]:
            if not 0 <= length <= len(data) - at:
                raise ValueError("an array reaches past the end")
            body = Array(dtype=str(dtype), shape=tuple(map(int, shape)), stype=str(stype), data=data[at : at + length])
            records.setdefault(str(key), {})[str(name)] = body
            at += length
        if at != len(data):
            raise ValueError("bytes are left over")
        content = RecordDict({key: ArrayRecord(record) for key, record in records.items()})
        for key, each in header["configs"].items():
            content[key] = ConfigRecord({name: _rich(value) for name, value in each.items()})
        for key, each in header["metrics"].items():
            content[key] = MetricRecord(each)
        return content, dict(header["facts"])
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise WireError(f"got a malformed frame of {len(data)} bytes ({type(error).__name__})") from None


def send(connection: socket.socket, data: bytes) -> None:
    """Send one frame over a socket."""
    connection.sendall(len(data).to_bytes(_SIZE_BYTES, "little") + data)


def receive(connection: socket.socket) -> bytes:
    """Return the next frame of a socket; raises `WireError` for one that is too long or cut short."""
    size = int.from_bytes(_exactly(connection, _SIZE_BYTES), "little")
    if size > LONGEST:
        raise WireError(f"got a frame of {size} bytes, allowed {LONGEST}")
    return _exactly(connection, size)


def _exactly(connection: socket.socket, size: int) -> bytes:
    found = bytearray()
    while len(found) < size:
        part = connection.recv(min(2**20, size - len(found)))
        if not part:
            raise WireError(f"got a frame that ends after {len(found)} of {size} bytes")
        found += part
    return bytes(found)


def _plain(value: Any) -> Any:  # noqa: ANN401 - any value that a ConfigRecord may hold
    if isinstance(value, bytes):
        return _BYTES + value.hex()
    if isinstance(value, str) and value.startswith(_BYTES):
        raise WireError(f"cannot send a text that begins with {_BYTES!r}")
    return [_plain(each) for each in value] if isinstance(value, list) else value


def _rich(value: Any) -> Any:  # noqa: ANN401 - what JSON holds
    if isinstance(value, str) and value.startswith(_BYTES):
        return bytes.fromhex(value.removeprefix(_BYTES))
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("a number is not finite")
    return [_rich(each) for each in value] if isinstance(value, list) else value
