"""What every reply passes on its way out, and every message on its way in.

Out: defenses -> error feedback -> codec (which severs the tensor) -> digest chain -> record -> byte count -> channel.
In: channel -> decode and check -> record.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import cast

import torch
from flwr.app import ArrayRecord
from torch import Tensor

from parties.feedback import Feedback
from vfl.channel import Channel
from vfl.defenses import Defense, Hook, SendContext, State
from vfl.errors import WireError
from vfl.exchange import ByClass
from vfl.seeds import Seeds
from vfl.store import TranscriptWriter
from vfl.types import REFEREE, Envelope, Kind, PartyId
from vfl.wire import Codec, body_bytes, chain, decode, encode

FED_BACK = (Kind.EMBEDDING, Kind.GRADIENT)
"""Kinds whose loss on the wire is fed back: those that something is learned from, row by row."""


@dataclass(slots=True)
class Mounted:
    """A defense at its party, with the state it carries from step to step, one a destination.

    All of a party's defenses are mounted, so that each has its own place; `acts_on` is empty where one sends nothing.
    """

    defense: Hook
    states: dict[PartyId, State] = field(default_factory=dict[PartyId, State])
    acts_on: frozenset[Kind] = frozenset()

    def __post_init__(self) -> None:
        """Note the kinds once: asking a protocol at every envelope is slow."""
        self.acts_on = self.defense.kinds if isinstance(self.defense, Defense) else frozenset()


@dataclass(frozen=True, slots=True)
class Sender:
    """What the outbox must know of its party to fill in a `SendContext`."""

    party: PartyId
    classes: int
    seeds: Seeds
    labels: Callable[[Tensor], Tensor] | None = None


@dataclass(slots=True)
class Outbox:
    """One party's way out. `chains`, the digest by destination, and `sent_bytes` grow with every envelope.

    `last` holds what each destination was sent last about some rows, after defenses: its answer is judged by it, where
    anything is mounted that judges.
    `without` are the parties that the run goes on without: a step played again then sends another body, and the noise
    of the first time would cancel out.
    """

    sender: Sender
    codec: Codec
    mounted: list[Mounted]
    recorder: TranscriptWriter | None
    channel: Channel | None
    chains: dict[PartyId, bytes] = field(default_factory=dict[PartyId, bytes])
    sent_bytes: dict[Kind, int] = field(default_factory=dict[Kind, int])
    last: dict[PartyId, Envelope] = field(default_factory=dict[PartyId, Envelope])
    without: tuple[PartyId, ...] = ()
    feedback: Feedback | None = None

    def send(
        self, envelope: Envelope, by_class: ByClass | None = None, *, learning: bool = True
    ) -> tuple[str, ArrayRecord]:
        """Return the record that leaves the party in place of this envelope.

        `by_class`, and whether the round is one of `learning`, are for its defenses alone.
        """
        defended = self._defend(envelope, by_class, learning)
        if self.mounted and len(defended.rows):  # an alignment's message is about none, and may be large
            step, kind, src, dst = defended.step, defended.kind, defended.src, defended.dst
            self.last[dst] = Envelope(step, kind, src, dst, defended.rows, defended.body.detach())
        key, record = self._encode(defended, learning)
        self.chains[envelope.dst] = chain(self.chains.get(envelope.dst, b""), key, record)
        if self.recorder is not None:
            self.recorder.add(envelope.step, "sent", key, record)
        if envelope.dst != REFEREE:  # the simulation's own node costs no company anything
            self.sent_bytes[envelope.kind] = self.sent_bytes.get(envelope.kind, 0) + body_bytes(record)
        return key, record if self.channel is None else self.channel.seal(envelope.dst, key, record)

    def _encode(self, envelope: Envelope, learning: bool) -> tuple[str, ArrayRecord]:
        """Return what the codec makes of an envelope; with feedback, of it and of what its rows have lost before."""
        learned = learning and envelope.kind in FED_BACK and len(envelope.rows) > 0
        if self.feedback is None or not learned or envelope.body.dtype != torch.float32:
            return encode(envelope, self.codec)
        corrected = self.feedback.corrected(envelope)
        key, record = encode(corrected, self.codec)
        self.feedback.note(corrected, decode(key, record).body)
        return key, record

    def _defend(self, envelope: Envelope, by_class: ByClass | None, learning: bool) -> Envelope:
        if not self.mounted:
            return envelope
        body = envelope.body
        for place, mounted in enumerate(self.mounted):
            if envelope.kind not in mounted.acts_on:
                continue
            defense = cast(Defense, mounted.defense)
            seeds, labels = self.sender.seeds, self.sender.labels
            ctx = SendContext(
                step=envelope.step,
                generator=seeds.torch("defense", place, envelope.dst, envelope.step, *self.without),
                labels=labels(envelope.rows) if labels else None,
                classes=self.sender.classes,
                rows=envelope.rows,
                by_class=None if by_class is None else partial(by_class, envelope.dst),
                learning=learning,
            )
            state = mounted.states.get(envelope.dst) or defense.init()
            body, mounted.states[envelope.dst] = defense.apply(body, state, ctx)
        return replace(envelope, body=body)


@dataclass(slots=True)
class Inbox:
    """One party's way in: opens, decodes, checks and records what reaches it."""

    party: PartyId
    recorder: TranscriptWriter | None
    channel: Channel | None

    def receive(self, step: int, key: str, record: ArrayRecord) -> Envelope:
        """Return the envelope of a record; raises `WireError` if it is malformed, misdirected or of another step."""
        opened = record if self.channel is None else self.channel.open(key, record)
        envelope = decode(key, opened)
        if envelope.dst != self.party or envelope.step != step:
            raise WireError(f"{self.party} got envelope {key!r} at step {step}; it belongs elsewhere or was replayed")
        if self.recorder is not None:
            self.recorder.add(step, "received", key, opened)
        return envelope
