"""What every reply passes on its way out, and every message on its way in.

Out: defenses -> codec (which severs the tensor) -> digest chain -> record -> byte count -> channel.
In: channel -> decode and check -> record.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from flwr.app import ArrayRecord
from torch import Tensor

from parties.chains import Chains
from vfl.channel import Channel
from vfl.defenses import Defense, SendContext, State
from vfl.errors import WireError
from vfl.seeds import Seeds
from vfl.store import TranscriptWriter
from vfl.types import REFEREE, Envelope, Kind, PartyId
from vfl.wire import Codec, body_bytes, decode, encode


@dataclass(slots=True)
class Mounted:
    """A defense at its party, with the state it carries from step to step, one a destination."""

    defense: Defense
    states: dict[PartyId, State] = field(default_factory=dict[PartyId, State])


@dataclass(frozen=True, slots=True)
class Sender:
    """What the outbox must know of its party to fill in a `SendContext`."""

    party: PartyId
    classes: int
    seeds: Seeds
    labels: Callable[[Tensor], Tensor] | None = None


@dataclass(slots=True)
class Outbox:
    """One party's way out. `chains` and `sent_bytes` grow with every envelope, recorded or not."""

    sender: Sender
    codec: Codec
    mounted: list[Mounted]
    recorder: TranscriptWriter | None
    channel: Channel | None
    chains: Chains = field(default_factory=Chains)
    sent_bytes: dict[Kind, int] = field(default_factory=dict[Kind, int])

    def send(self, envelope: Envelope) -> tuple[str, ArrayRecord]:
        """Return the record that leaves the party in place of this envelope."""
        defended = self._defend(envelope)
        key, record = encode(defended, self.codec)
        self.chains.add(envelope.dst, key, record)
        if self.recorder is not None:
            self.recorder.add(envelope.step, "sent", key, record)
        if envelope.dst != REFEREE:  # the simulation's own node costs no company anything
            self.sent_bytes[envelope.kind] = self.sent_bytes.get(envelope.kind, 0) + body_bytes(record)
        return key, record if self.channel is None else self.channel.seal(envelope.dst, key, record)

    def _defend(self, envelope: Envelope) -> Envelope:
        if not self.mounted:
            return envelope
        body = envelope.body
        for place, mounted in enumerate(self.mounted):
            if envelope.kind not in mounted.defense.kinds:
                continue
            seeds, labels = self.sender.seeds, self.sender.labels
            ctx = SendContext(
                step=envelope.step,
                generator=seeds.torch("defense", place, envelope.dst, envelope.step),
                labels=labels(envelope.rows) if labels else None,
                classes=self.sender.classes,
            )
            state = mounted.states.get(envelope.dst) or mounted.defense.init()
            body, mounted.states[envelope.dst] = mounted.defense.apply(body, state, ctx)
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
