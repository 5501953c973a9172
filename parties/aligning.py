"""One party's half of an alignment, played by its aligner or taken from the files of a run that played the same.

Trials of a sweep that differ in a defense align alike, and matching privately costs more than many a trial. What a
handler sends follows from the party's ids, its seeds, the aligner's options and all it was sent before, so this is
what a file is named by. The messages themselves are sent, counted and chained as ever: only the work is spared.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import cast

from torch import Tensor

from vfl import checkpoint
from vfl.align import Alignment, AlignSide
from vfl.errors import DataError
from vfl.exchange import Mail, Outgoing
from vfl.types import Step

Handler = Callable[[Step, Mail], Outgoing]


class Aligning:
    """Answers each hop from `folder` where it has the answer; `None` has none, and every hop is played.

    `folder` is this party's own, and stands for its ids, seeds and options: runs that differ in one of these must name
    another. The aligner's side is not made before it has to play, and then plays what was answered so far first.
    """

    def __init__(self, make: Callable[[], AlignSide], folder: Path | None) -> None:
        self._folder = folder
        self._side, self._make = (make(), None) if folder is None else (None, make)  # it holds every key: let go of it
        self._answered: list[tuple[str, Step, Mail]] = []
        self._heard = b""
        self._found: Alignment | None = None

    @property
    def alignment(self) -> Alignment | None:
        """What this party knows in the end; `None` before the last hop has run."""
        return self._found if self._side is None else self._side.alignment

    def handler(self, name: str) -> Handler:
        """Return the aligner's handler of this name, or what answers in its place."""
        folder = self._folder
        if folder is None:
            return getattr(self._side, name)
        return lambda step, mail: self._answer(folder, name, step, mail)

    def _answer(self, folder: Path, name: str, step: Step, mail: Mail) -> Outgoing:
        self._heard = _heard(self._heard, name, step, mail)
        path = folder / f"{self._heard.hex()}.safetensors"
        kept = _read(path) if self._side is None else None
        if kept is not None:
            self._answered.append((name, step, mail))
            self._found, outgoing = kept
            return outgoing
        if self._side is None:
            self._side, self._make = cast(Callable[[], AlignSide], self._make)(), None
            for earlier in self._answered:
                _play(self._side, *earlier)
        outgoing = _play(self._side, name, step, mail)
        _write(path, self._side.alignment, outgoing)
        return outgoing


def _play(side: AlignSide, name: str, step: Step, mail: Mail) -> Outgoing:
    return getattr(side, name)(step, mail)


def _heard(before: bytes, name: str, step: Step, mail: Mail) -> bytes:
    """Return the hash of a call and, through the hash `before` it, of every earlier one."""
    found = hashlib.sha256(before + repr((name, step)).encode())
    for party in sorted(mail):
        envelope = mail[party]
        for tensor in (envelope.rows, envelope.body):
            found.update(repr((party, envelope.kind.value, str(tensor.dtype), tuple(tensor.shape))).encode())
            found.update(tensor.numpy().tobytes())
    return found.digest()


def _write(path: Path, alignment: Alignment | None, outgoing: Outgoing) -> None:
    """Keep an answer that is bodies alone, whole or not at all; processes that keep it at once write the same."""
    if outgoing.rows is not None or outgoing.report or outgoing.by_class is not None:
        return
    tensors = {f"body.{party}": body.clone().contiguous() for party, body in outgoing.bodies.items()}
    facts: dict[str, object] = {"to": list(outgoing.bodies), "aligned": alignment is not None}
    if alignment is not None:
        tensors |= {"order": alignment.order.clone(), "only": alignment.only.clone()}
        facts |= {"sizes": [alignment.train, alignment.valid, alignment.test], "held": dict(alignment.held)}
    checkpoint.save_shared(path, tensors, facts)


def _read(path: Path) -> tuple[Alignment | None, Outgoing] | None:
    """Return an answer that was kept; `None` where there is none, or not as it was written."""
    if not path.is_file():
        return None
    try:
        tensors, facts = checkpoint.load(path)
    except DataError:
        return None
    bodies: dict[str, Tensor] = {party: tensors[f"body.{party}"] for party in facts["to"]}
    if not facts["aligned"]:
        return None, Outgoing(bodies=bodies)
    train, valid, test = facts["sizes"]
    alignment = Alignment(tensors["order"], train, valid, test, tensors["only"], facts["held"])
    return alignment, Outgoing(bodies=bodies)
