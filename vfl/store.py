"""A party's own record of the wire, on disk: what it sent and what it received, in checksummed safetensors chunks.

A chunk is written whole and renamed into place, so a killed run leaves complete chunks and nothing else. Chunks are
named by their first step; a resumed run deletes those that reach past its checkpoint.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Literal

import safetensors.numpy
from flwr.app import Array, ArrayRecord

from vfl.compat_flwr import array as make_array
from vfl.compat_flwr import arrays, items
from vfl.errors import DataError
from vfl.transcript import AdversaryView, Hints, Holding
from vfl.types import Envelope, PartyId
from vfl.whole import to_disk, write_whole
from vfl.wire import STYPE, body_bytes, decode

Direction = Literal["sent", "received"]
CHUNK_BYTES = 8 * 2**20
_Entry = tuple[int, Direction, str, ArrayRecord]
_NAMES = {"<f4": "F32", "<f8": "F64", "<i4": "I32", "<i8": "I64", "|u1": "U8"}
"""What safetensors calls the types that the wire carries."""
_UNDER_WAY: dict[Path, Future[Path]] = {}
"""The chunk that is being written, by folder: who opens a folder anew, or cuts it back, waits for it first."""


class TranscriptWriter:
    """Appends every `every`-th step's envelopes to a party's folder; holds at most two chunks in memory.

    A full chunk is written by another thread while training goes on; what went wrong there is raised by
    the next chunk, or by `flush`, after which everything is on disk. Until then a chunk may only be with the operating
    system: a run that goes on from a checkpoint, before which all was flushed, deletes those anyway.
    """

    def __init__(self, folder: Path, every: int) -> None:
        self._folder = folder
        self._every = every
        self._pending: list[_Entry] = []
        self._size = 0
        self._unsynced: list[Path] = []
        folder.mkdir(parents=True, exist_ok=True)
        with suppress(OSError):  # of an earlier writer that was dropped with a chunk under way
            self._settle()

    def add(self, step: int, direction: Direction, key: str, record: ArrayRecord) -> None:
        """Keep one envelope record as it was on the wire, before any channel sealed it or after one opened it."""
        if step % self._every:
            return
        self._pending.append((step, direction, key, _lasting(record)))
        self._size += body_bytes(record)
        if self._size >= CHUNK_BYTES:
            self._hand_over()

    def flush(self) -> None:
        """Write what is pending as one chunk, and return once all is on disk."""
        if self._pending:
            self._hand_over()
        self._settle()
        for path in self._unsynced:
            to_disk(path)
        self._unsynced = []

    def cut_back(self, step: int) -> None:
        """Forget everything from `step` on: the checkpoint to resume from was taken just before it."""
        self._settle()
        self._pending, self._size, self._unsynced = [], 0, []
        for path in _chunks(self._folder):
            if _span(path)[1] >= step:
                path.unlink()

    def _hand_over(self) -> None:
        self._settle()
        _UNDER_WAY[self._folder] = _thread().submit(_write_chunk, self._folder, self._pending)
        self._pending, self._size = [], 0

    def _settle(self) -> None:
        under_way = _UNDER_WAY.pop(self._folder, None)
        if under_way is not None:
            self._unsynced.append(under_way.result())


def _lasting(record: ArrayRecord) -> ArrayRecord:
    """Return the record with a copy of what its party may write to: what a channel opened for it."""
    found = items(record)
    if all(isinstance(each.data, bytes) for each in found.values()):
        return record
    copied = {n: make_array(each.dtype, each.shape, each.stype, bytes(each.data)) for n, each in found.items()}
    return arrays(copied)


@lru_cache(maxsize=1)
def _thread() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, thread_name_prefix="transcript")


def _write_chunk(folder: Path, entries: Sequence[_Entry]) -> Path:
    """Write envelopes as one safetensors file, from the bytes that were on the wire, and return where it is.

    The bytes are joined first: a checksum and a write of each part would take the interpreter from those who train a
    hundred times a chunk.
    """
    told: dict[str, object] = {}
    lossy: dict[str, object] = {}
    bodies: list[bytes] = []
    at = 0
    for _, direction, key, record in entries:
        for part, array in items(record).items():
            name, raw = f"{direction}/{key}/{part}", array.stype == STYPE["raw"]
            dtype, shape = (_NAMES[array.dtype], list(array.shape)) if raw else ("U8", [len(array.data)])
            told[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(array.data)]}
            if not raw:
                lossy[name] = [array.stype, array.dtype, list(array.shape)]
            bodies.append(array.data)
            at += len(array.data)
    header = json.dumps({"__metadata__": {"lossy": json.dumps(lossy)}, **told}).encode()
    header += b" " * (-len(header) % 8)
    content = b"".join([len(header).to_bytes(8, "little"), header, *bodies])
    steps = [step for step, *_ in entries]
    path = folder / _chunk_name(min(steps), max(steps), zlib.crc32(content))
    write_whole(path, content, sync=False)
    return path


def envelopes(folder: Path) -> Iterator[tuple[Direction, Envelope]]:
    """Yield a party's recorded envelopes in step order; raises `DataError` for a chunk whose checksum is wrong."""
    for path in _chunks(folder):
        payload = path.read_bytes()
        if f"{zlib.crc32(payload):08x}" != path.stem.split("-")[3]:
            raise DataError("got a transcript chunk whose checksum is wrong; record the run again", where=str(path))
        yield from _decode_chunk(payload)


def load_view(
    folders: Sequence[Path],
    parties: tuple[PartyId, ...],
    classes: int,
    hints: Hints | None = None,
    own: Mapping[PartyId, Holding] | None = None,
) -> AdversaryView:
    """Return the view of parties that pool their own transcript folders, envelopes in step order."""
    found = [entry for folder in folders for entry in envelopes(folder)]
    found.sort(key=lambda entry: entry[1].step)
    outside = [(way, envelope) for way, envelope in found if envelope.src not in parties or envelope.dst not in parties]
    return AdversaryView(
        parties=parties,
        classes=classes,
        sent=tuple(envelope for way, envelope in outside if way == "sent"),
        received=tuple(envelope for way, envelope in outside if way == "received"),
        hints=hints or Hints(),
        own=own or {},
    )


def _decode_chunk(payload: bytes) -> Iterator[tuple[Direction, Envelope]]:
    header_size = int.from_bytes(payload[:8], "little")
    metadata = json.loads(payload[8 : 8 + header_size])["__metadata__"]
    lossy: dict[str, tuple[str, str, list[int]]] = json.loads(metadata["lossy"])
    arrays: dict[str, Array] = {}
    for name, values in safetensors.numpy.load(payload).items():
        stype, dtype, shape = lossy.get(name) or (STYPE["raw"], values.dtype.str, list(values.shape))
        arrays[name] = Array(dtype=dtype, shape=tuple(shape), stype=stype, data=values.tobytes())
    for name in sorted((name for name in arrays if name.endswith("/body")), key=lambda name: int(name.split("/")[4])):
        direction, _, key = name.removesuffix("/body").partition("/")
        record = ArrayRecord({"rows": arrays[f"{direction}/{key}/rows"], "body": arrays[name]})
        yield ("sent" if direction == "sent" else "received"), decode(key, record)


def _chunk_name(first: int, last: int, checksum: int) -> str:
    return f"chunk-{first:09d}-{last:09d}-{checksum:08x}.safetensors"


def _chunks(folder: Path) -> list[Path]:
    return sorted(folder.glob("chunk-*.safetensors"))


def _span(path: Path) -> tuple[int, int]:
    _, first, last, _ = path.stem.split("-")
    return int(first), int(last)


def recorded_bytes(steps: int, every: int, bytes_per_step: int) -> int:
    """Return what a transcript of `steps` rounds takes on disk, all parties together (each keeps both ends)."""
    return 2 * math.ceil(steps / every) * bytes_per_step if every else 0
