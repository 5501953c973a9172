"""Look through another process's memory for what it should not hold."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from vfl.store import envelopes
from vfl.types import Kind

CHUNK = 2**20
OVERLAP = 1024
MOST = 24
"""Needles of a transcript: each is looked for in some hundred megabytes."""


def secrets(transcript: Path, rows: int = 5) -> list[bytes]:
    """Return pieces of what a party recorded: rows of embeddings and gradients, and runs of row handles."""
    found = []
    for _, envelope in envelopes(transcript):
        if envelope.kind in (Kind.EMBEDDING, Kind.GRADIENT):
            rows_of = [row.numpy().tobytes()[:24] for row in envelope.body[:rows]]
            found += [row for row in rows_of if len(set(row)) > 12]
            handles = envelope.rows[:8].numpy()
            if len(handles) == 8 and (np.diff(handles) != 1).any():  # eight numbers in a row are in any process
                found += [handles.astype("<i4").tobytes(), handles.astype("<i8").tobytes()]
    found = list(dict.fromkeys(found))
    return found[:: -(-len(found) // MOST)]


def label_runs(labels: np.ndarray) -> list[bytes]:
    """Return a long run of labels as the arrays that they could be held in."""
    return [labels[:64].astype(kind).tobytes() for kind in ("<i8", "<f4")]


def memory(pid: int) -> Iterator[bytes]:
    """Yield what a process of ours can have written to its memory, piece by piece; pages of zeros are left out."""
    maps = Path(f"/proc/{pid}/maps").read_text().splitlines()
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as stream:
        for line in maps:
            place, access, _, _, inode, *_ = line.split()
            library = inode != "0" and "w" not in access
            if not access.startswith("r") or library or "[v" in line:
                continue
            start, stop = (int(each, 16) for each in place.split("-"))
            for at in range(start, stop, CHUNK):
                first = max(start, at - OVERLAP)
                try:
                    stream.seek(first)
                    piece = stream.read(min(at + CHUNK, stop) - first)
                except (OSError, ValueError):
                    break
                if piece.count(0) < len(piece):
                    yield piece


def descendants(pid: int) -> list[int]:
    """Return a process and all that it, or one that it started, has started."""
    parents: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # it has ended in the meantime
        parents.setdefault(parent, []).append(int(path.parent.name))
    return [pid, *(each for child in parents.get(pid, []) for each in descendants(child))]


def which(pid: int, needles: list[bytes]) -> list[bytes]:
    """Return those of the needles that are anywhere in the memory of a process."""
    seen: set[int] = set()
    for piece in memory(pid):
        seen |= {place for place, needle in enumerate(needles) if place not in seen and needle in piece}
    return [needles[place] for place in sorted(seen)]


def found_in(pid: int, needles: list[bytes]) -> int:
    """Return how many of the needles are anywhere in the memory of a process."""
    return len(which(pid, needles))
