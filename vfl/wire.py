"""Envelope <-> Flower records: the only codec.

An envelope travels as one `ArrayRecord` of two arrays, `rows` and `body`, under a key that is its header:
`KIND/SRC/DST/STEP`. Bodies are little-endian C-order bytes under a serialisation type of our own, so Flower carries
them untouched; encoding copies, so nothing that is sent shares memory with what the sender keeps.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from torch import Tensor

from vfl.compat_flwr import array, arrays, bundle, items, texts
from vfl.errors import WireError
from vfl.types import Envelope, Kind, PartyId, Pool, Step

Codec = Literal["raw", "f16", "int8"]
STYPE: dict[str, str] = {"raw": "vfl.raw.v1", "f16": "vfl.f16.v1", "int8": "vfl.int8.v1"}
STEP_KEY = "step"
HOPS_KEY = "hops"
CONTROL_KEY = "control"
CALL_KEY = "call"
"""Entry of every control call: a text that no two calls share, by which one that comes twice is known."""
REPORT_KEY = "report"

_DTYPES = {torch.float32: "<f4", torch.int64: "<i8", torch.uint8: "|u1", torch.float64: "<f8"}
_TORCH = {name: dtype for dtype, name in _DTYPES.items()}
_ROW_DTYPE = "<i4"
_RAW_BYTES = {(STYPE["raw"], name): np.dtype(name).itemsize for name in _TORCH}
_ITEM_BYTES = {**_RAW_BYTES, (STYPE["f16"], "<f4"): 2, (STYPE["int8"], "<f4"): 1}
_STEP = re.compile(r"0|[1-9][0-9]{0,17}")
_KINDS = {kind.value: kind for kind in Kind}
_MAX_SIDE = 2**31
_PARTS = {"rows", "body"}


def encode(envelope: Envelope, codec: Codec) -> tuple[str, ArrayRecord]:
    """Return the record key and record of an envelope. `f16` and `int8` are lossy and only touch float32 bodies.

    `int8` scales each body by its own greatest absolute value, sent as one float32 in front of the values.
    Raises `WireError` for a dtype the wire does not carry.
    """
    body = envelope.body.detach().contiguous()
    if body.dtype not in _DTYPES:
        raise WireError(f"cannot send a body of {body.dtype}, allowed {sorted(_TORCH)}; convert it before sending")
    lossy = codec != "raw" and body.dtype == torch.float32
    data = _lossy(body, codec) if lossy else body.numpy().tobytes()
    stype = STYPE[codec] if lossy else STYPE["raw"]
    rows = envelope.rows.numpy().astype(_ROW_DTYPE)
    handles = array(_ROW_DTYPE, rows.shape, STYPE["raw"], rows.tobytes())
    record = arrays({"rows": handles, "body": array(_DTYPES[body.dtype], tuple(body.shape), stype, data)})
    return header(envelope.kind, envelope.src, envelope.dst, envelope.step), record


def decode(key: str, record: ArrayRecord) -> Envelope:
    """Return the envelope of a record; every malformed part is refused with `WireError`, never trusted."""
    kind, src, dst, step = parse_header(key)
    parts = items(record)
    if parts.keys() != _PARTS:
        raise WireError(f"envelope {key!r} holds arrays {sorted(record)}, allowed exactly body and rows")
    rows = _decode_rows(key, parts["rows"])
    body = _decode_body(key, parts["body"])
    if rows.shape[0] and rows.shape[0] != body.shape[0]:
        raise WireError(f"envelope {key!r} has {len(rows)} rows and a body of shape {tuple(body.shape)}; they differ")
    if body.is_floating_point() and not _finite(body):
        raise WireError(f"envelope {key!r} holds values that are not finite; the sender's model diverged or is hostile")
    return Envelope(step=step, kind=kind, src=src, dst=dst, rows=rows, body=body)


def header(kind: Kind, src: PartyId, dst: PartyId, step: int) -> str:
    """Return the canonical header of an envelope, which is also its record key."""
    return f"{kind.value}/{src}/{dst}/{step}"


@lru_cache(maxsize=256)
def parse_header(key: str) -> tuple[Kind, PartyId, PartyId, int]:
    """Return kind, source, destination and step of a record key; raises `WireError` if it is not one."""
    parts = key.split("/")
    if len(parts) != 4 or parts[0] not in _KINDS or not (parts[1] and parts[2]) or not _STEP.fullmatch(parts[3]):
        raise WireError(f"got envelope header {key!r}, allowed KIND/SRC/DST/STEP with KIND of {list(_KINDS)}")
    kind, src, dst, step = parts
    return _KINDS[kind], src, dst, int(step)


def chain(previous: bytes, key: str, record: ArrayRecord) -> bytes:
    """Return the next link of an edge's SHA-256 chain over canonical header and body bytes."""
    parts = items(record)
    rows, body = parts["rows"], parts["body"]
    link = hashlib.sha256(previous)
    link.update(f"{key}|{rows.shape}|{body.dtype}|{body.shape}|{body.stype}".encode())
    link.update(rows.data)
    link.update(body.data)
    return link.digest()


def mail(content: RecordDict, party: PartyId | None = None) -> dict[str, ArrayRecord]:
    """Return the envelope records of a message, or only those addressed to `party`, if all have valid headers."""
    return {
        key: record
        for key, record in items(content).items()
        if isinstance(record, ArrayRecord) and (party is None or parse_header(key)[2] == party)
    }


def body_bytes(record: ArrayRecord) -> int:
    """Return what an envelope costs on the wire: rows and body, headers left out."""
    parts = items(record)
    return len(parts["rows"].data) + len(parts["body"].data)


def step_record(step: Step | str, hops: Sequence[str] | str = ()) -> ConfigRecord:
    """Return a step header, with the hops to run, as the one record that every message to a party carries.

    Either may be given as the text that it is sent as.
    """
    header = step if isinstance(step, str) else step_text(step)
    return texts({STEP_KEY: header, HOPS_KEY: hops if isinstance(hops, str) else "|".join(hops)})


def step_text(step: Step) -> str:
    """Return a step header as text."""
    fields = (step.index, step.phase, step.pool.value, step.epoch, step.start, step.size, int(step.shuffle), step.of)
    return "|".join(map(str, fields))


def read_step(content: RecordDict) -> tuple[Step, tuple[str, ...]]:
    """Return the step header of a message and the hops to run; raises `WireError` where it is absent or malformed."""
    try:
        record = content[STEP_KEY]
        return parse_step(str(record[STEP_KEY])), _parse_hops(str(record[HOPS_KEY]))
    except (KeyError, ValueError) as error:
        raise WireError(f"message has no valid step header ({error})") from None


@lru_cache(maxsize=256)
def _parse_hops(text: str) -> tuple[str, ...]:
    return tuple(filter(None, text.split("|")))


@lru_cache(maxsize=32)
def parse_step(text: str) -> Step:
    """Return the step header that `step_text` wrote; raises `ValueError` where it did not."""
    index, phase, pool, epoch, start, size, shuffle, of = text.split("|")
    step = Step(int(index), phase, Pool(pool), int(epoch), int(start), int(size), bool(int(shuffle)), int(of))
    if min(step.index, step.epoch, step.start, step.size, step.of) < 0:
        raise ValueError(f"got a negative number in {text!r}")
    if shuffle not in ("0", "1"):
        raise ValueError(f"got shuffle {shuffle!r}, allowed 0 or 1")
    return step


def addressed(content: RecordDict, kind: Kind, party: PartyId) -> Iterator[tuple[str, ArrayRecord]]:
    """Yield the envelope records of one kind in a message that are addressed to `party`, if all headers are valid."""
    for key, record in mail(content, party).items():
        if parse_header(key)[0] == kind:
            yield key, record


def merge(step: ConfigRecord | None, records: Iterable[tuple[str, ArrayRecord]]) -> RecordDict:
    """Return message content: envelopes, and on the way to a party the step header they belong to."""
    return bundle({} if step is None else {STEP_KEY: step}, records)


def _finite(body: Tensor) -> bool:
    """Whether all values are finite; the sum, a third of the cost, settles it for all but absurdly large ones."""
    return math.isfinite(body.sum().item()) or bool(torch.isfinite(body).all())


def _lossy(body: Tensor, codec: Codec) -> bytes:
    if codec == "f16":
        return body.to(torch.float16).numpy().tobytes()
    scale = body.abs().max().clamp_min(1e-30) if body.numel() else torch.ones(())
    quantised = (body / scale * 127).round().to(torch.int8)
    return scale.numpy().astype("<f4").tobytes() + quantised.numpy().tobytes()


def _decode_rows(key: str, rows: Array) -> Tensor:
    plain = (rows.stype, rows.dtype) == (STYPE["raw"], _ROW_DTYPE)
    if not plain or len(rows.shape) != 1 or len(rows.data) != 4 * rows.shape[0]:
        raise WireError(
            f"envelope {key!r} has malformed row handles ({rows.dtype}, {rows.shape}, {len(rows.data)} bytes)"
        )
    handles = np.frombuffer(rows.data, dtype=_ROW_DTYPE).astype(np.int64)
    if len(handles) and handles.min() < 0:
        raise WireError(f"envelope {key!r} has the row handle {handles.min()}, allowed 0 or more")
    return torch.from_numpy(handles)


def _decode_body(key: str, body: Array) -> Tensor:
    size, extra = _ITEM_BYTES.get((body.stype, body.dtype)), 4 if body.stype == STYPE["int8"] else 0
    sane = len(body.shape) == 2 and all(0 <= side < _MAX_SIDE for side in body.shape)
    count = math.prod(body.shape)
    if size is None or not sane or len(body.data) != count * size + extra:
        raise WireError(f"envelope {key!r} has a malformed body ({body.stype}, {body.dtype}, {body.shape})")
    if not count:
        return torch.empty(body.shape, dtype=_TORCH[body.dtype])
    data: bytes | bytearray = body.data
    if not isinstance(data, bytearray):  # else it was made for this envelope alone: a channel opened it
        data = bytearray(data)
    if body.stype == STYPE["f16"]:
        return torch.frombuffer(data, dtype=torch.float16).float().reshape(body.shape)
    if body.stype == STYPE["int8"]:
        scale = torch.frombuffer(data, dtype=torch.float32, count=1).item()
        return (torch.frombuffer(data, dtype=torch.int8, offset=4) * (scale / 127)).reshape(body.shape)
    return torch.frombuffer(data, dtype=_TORCH[body.dtype]).reshape(body.shape)
