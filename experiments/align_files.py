"""Align the rows of users' files by their key column, each file a party of its own, without training anything."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch

from vfl.align import Aligner, Alignment, AlignSide, Ids
from vfl.data.csv import read_keys, resolve
from vfl.errors import DataError
from vfl.exchange import NOTHING, Mail, Outgoing
from vfl.grid import Roster
from vfl.registry import build
from vfl.seeds import Seeds
from vfl.types import ADVERTISER, REFEREE, Envelope, Hop, Kind, PartyId, Pool, Role, Step
from vfl.whole import write_whole
from vfl.wire import body_bytes, decode, encode

_NO_ROWS = torch.empty(0, dtype=torch.int64)


@dataclass(slots=True)
class Played:
    """What playing one round of an aligner leaves: each party's alignment, every envelope sent, bytes by kind."""

    alignments: dict[PartyId, Alignment] = field(default_factory=dict[PartyId, Alignment])
    envelopes: list[Envelope] = field(default_factory=list[Envelope])
    bytes_sent: dict[str, int] = field(default_factory=dict[str, int])


class Witness:
    """Stands in for the referee, who is told the order and needs it for nothing here."""

    alignment = None

    def admit(self, step: Step, mail: Mail) -> Outgoing:
        """Hear the order."""
        return NOTHING


def align_files(files: Sequence[Path], key: str, aligner: str, out: Path | None) -> dict[str, Any]:
    """Align files by their key column, the last one the advertiser's, and return what the command prints.

    With `out`, each party's rows in the common order are written to `OUT/PARTY.csv`: line by line the same entity in
    every file, row 0 the first below the header. Secrets come from the system's randomness, so no two calls draw alike.

    Raises `DataError` for files that a run would refuse for their keys, and for files that share no id.
    """
    member: Aligner = build("align", aligner)
    parties = party_names(len(files))
    ids = {party: read_keys(resolve(str(path), None), key) for party, path in zip(parties, files, strict=True)}
    secret = Seeds(os.urandom(32))
    began = time.perf_counter()
    played = play(member, ids, {party: secret.scope(party) for party in parties})
    aligned = len(played.alignments[ADVERTISER].order)
    if not aligned:
        names = ", ".join(str(path) for path in files)
        raise DataError(f"got no id that all of {names} hold, allowed one or more; check the column", key=key)
    if out is not None:
        _write(out, played.alignments)
    held = played.alignments[ADVERTISER].held
    return {
        "schema": 1,
        "aligner": aligner,
        "key": key,
        "aligned": aligned,
        "only": {party: held.get(party, 0) for party in parties},
        "partial": {who: count for who, count in held.items() if "+" in who},
        "parties": {
            party: {"file": str(path), "rows": len(ids[party])} for party, path in zip(parties, files, strict=True)
        },
        "bytes": played.bytes_sent,
        "wall_s": time.perf_counter() - began,
        "out": None if out is None else str(out),
    }


def summary(result: Mapping[str, Any]) -> str:
    """Return what the command prints for a person."""
    lines = [f"{result['aligned']:,} rows are shared by all, aligned by {result['aligner']} on {result['key']!r}"]
    for party, about in result["parties"].items():
        lines.append(f"  {party}: {about['file']}, {about['rows']:,} rows, {result['only'][party]:,} held alone")
    lines += [f"  {who}: {count:,} rows" for who, count in result["partial"].items()]
    lines.append(f"  {sum(result['bytes'].values()):,} bytes sent in {result['wall_s']:.1f} s")
    if result["out"] is not None:
        lines.append(f"  rows in common order: {result['out']}")
    return "\n".join(lines)


def party_names(count: int) -> tuple[PartyId, ...]:
    """Return the parties that so many files are: publishers, and the advertiser last."""
    publishers = ("publisher",) if count == 2 else tuple(f"publisher_{place}" for place in range(1, count))
    return (*publishers, ADVERTISER)


def play(
    aligner: Aligner, ids: Mapping[PartyId, Ids], seeds: Mapping[PartyId, Seeds], pools: torch.Tensor | None = None
) -> Played:
    """Play an aligner's round in this process, hop by hop, every message through the codec of the wire.

    The advertiser is the party of that name; `pools` are its rows' and all training rows by default.
    """
    publishers = tuple(party for party in ids if party != ADVERTISER)
    everyone = tuple((party, Role.ADVERTISER if party == ADVERTISER else Role.PUBLISHER) for party in ids)
    roster = Roster((*everyone, (REFEREE, Role.REFEREE)))
    if pools is None:
        pools = torch.zeros(len(ids[ADVERTISER]), dtype=torch.int64)
    sides: dict[PartyId, AlignSide] = {party: aligner.publisher(ids[party], seeds[party]) for party in publishers}
    sides[ADVERTISER] = aligner.advertiser(ids[ADVERTISER], pools, seeds[ADVERTISER], publishers)
    sides[REFEREE] = Witness()
    return _walk(aligner.hops, roster, sides)


def _walk(hops: Sequence[Hop], roster: Roster, sides: Mapping[PartyId, AlignSide]) -> Played:
    played, step = Played(), Step(0, "align", Pool.TRAIN)
    made: dict[tuple[str, PartyId], dict[PartyId, Envelope]] = {}
    for hop in hops:
        sources = [name for name in hop.takes for other in hops if other.name == name and other.gives]
        for party in roster.of(hop.role):
            mail = {src: sent[party] for (name, src), sent in made.items() if name in sources and party in sent}
            outgoing: Outgoing = getattr(sides[party], hop.handler)(step, mail)
            made[hop.name, party] = _sent(outgoing, cast(Kind, hop.gives), party, played)
    played.alignments = {party: side.alignment for party, side in sides.items() if side.alignment is not None}
    return played


def _sent(outgoing: Outgoing, kind: Kind, party: PartyId, played: Played) -> dict[PartyId, Envelope]:
    found: dict[PartyId, Envelope] = {}
    for dst, body in outgoing.bodies.items():
        key, record = encode(Envelope(0, kind, party, dst, _NO_ROWS, body), "raw")
        found[dst] = decode(key, record)
        played.envelopes.append(found[dst])
        if dst != REFEREE:
            played.bytes_sent[kind.value] = played.bytes_sent.get(kind.value, 0) + body_bytes(record)
    return found


def _write(out: Path, alignments: Mapping[PartyId, Alignment]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for party, alignment in alignments.items():
        lines = "\n".join(["row", *map(str, alignment.order.tolist())])
        write_whole(out / f"{party}.csv", f"{lines}\n".encode())
