"""What a message must pass before its party acts on it: limits of size and rate, the order of steps, and duplicates.

A step may reach a party twice, over a link that duplicates or because an answer was lost. It is acted on once: the same
message is answered as it was the first time, another one under the same name is refused.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from flwr.app import ArrayRecord, ConfigRecord, RecordDict

from vfl.compat_flwr import items
from vfl.errors import WireError
from vfl.types import PartyId
from vfl.wire import STEP_KEY, mail

_HEAD, _TAIL = 12, 16
Fingerprint = tuple[object, ...]
Answers = dict[tuple[str, ...], tuple[Fingerprint, RecordDict]]


@dataclass(frozen=True, slots=True)
class Limits:
    """What a party takes in: bytes and envelopes of one message, and messages a second (bursts of as many)."""

    message_bytes: int = 512 * 2**20
    envelopes: int = 256
    per_second: float = 20_000.0


@dataclass(slots=True)
class Entry:
    """What one party lets in. `step` is the last one acted on, `answers` what was replied to its messages, by hops."""

    party: PartyId
    limits: Limits
    clock: Callable[[], float] = time.monotonic
    step: int = -1
    answers: Answers = field(default_factory=Answers)
    _allowance: float = 1.0
    _filled: float = field(default=-1.0)

    def admit(self, content: RecordDict) -> dict[str, ArrayRecord]:
        """Return the envelope records of a message.

        Raises `WireError` for a message that is too large, holds too many envelopes, or comes too soon.
        """
        records = mail(content)
        if records:
            if len(records) > self.limits.envelopes:
                raise WireError(f"{self.party} got {len(records)} envelopes at once, allowed {self.limits.envelopes}")
            size = sum(len(array.data) for record in records.values() for array in items(record).values())
            if size > self.limits.message_bytes:
                raise WireError(f"{self.party} got a message of {size} bytes, allowed {self.limits.message_bytes}")
        now, burst = self.clock(), self.limits.per_second
        if self._filled < 0:
            self._filled, self._allowance = now, burst
        self._allowance = min(burst, self._allowance + (now - self._filled) * self.limits.per_second)
        self._filled = now
        if self._allowance < 1:
            raise WireError(
                f"{self.party} got more than {self.limits.per_second:.0f} messages a second; it takes no more"
            )
        self._allowance -= 1
        return records

    def answered(self, step: int, hops: tuple[str, ...], content: RecordDict) -> RecordDict | None:
        """Return what was replied to this very message before, `None` where it is new.

        Raises `WireError` for a message of an earlier step, for another one under the name of one acted on, and for a
        hop a second time in a step, whatever stands beside it: noise is drawn by step, and two bodies would share it.
        """
        if step < self.step:
            raise WireError(f"{self.party} got step {step} after step {self.step}; it was replayed or reordered")
        acted: Answers = self.answers if step == self.step else {}
        before = acted.get(hops)
        if before is None:
            self._refuse_another(step, hops, content, acted)
            return None
        if before[0] != _fingerprint(content):
            raise WireError(
                f"{self.party} got step {step} for {'+'.join(hops)} again with other content; it was tampered with"
            )
        return before[1]

    def _refuse_another(self, step: int, hops: tuple[str, ...], content: RecordDict, acted: Answers) -> None:
        """Refuse a hop that stands twice or was acted on, and a step whose messages are of two different rounds."""
        if len({*hops}) < len(hops) or not {*hops}.isdisjoint(name for names in acted for name in names):
            raise WireError(f"{self.party} got step {step} for {'+'.join(hops)}; it acts on each hop once in a step")
        if any(fingerprint[0] != _header(content) for fingerprint, _ in acted.values()):
            raise WireError(f"{self.party} got step {step} with another header; a step's messages all have the same")

    def keep(self, step: int, hops: tuple[str, ...], content: RecordDict, reply: RecordDict) -> None:
        """Note that a message was acted on, and what was replied."""
        if step != self.step:
            self.step = step
            self.answers.clear()
        self.answers[hops] = (_fingerprint(content), reply)

    def state(self) -> list[tuple[tuple[str, ...], Fingerprint, RecordDict]]:
        """Return what was acted on in the step at hand, for the party's next process to answer the same."""
        return [(hops, fingerprint, reply) for hops, (fingerprint, reply) in self.answers.items()]

    def reset(self) -> None:
        """Forget all steps: the party goes on from a checkpoint, or begins."""
        self.step = -1
        self.answers.clear()


def _fingerprint(content: RecordDict) -> Fingerprint:
    """Return what tells two messages of one name apart: the header, and of a sealed array nonce and tag."""
    arrays: list[object] = []
    for key, record in items(content).items():
        if isinstance(record, ArrayRecord):
            for name, array in items(record).items():
                data, shape = array.data, tuple(array.shape)
                arrays.append((key, name, array.stype, array.dtype, shape, bytes(data[:_HEAD]), bytes(data[-_TAIL:])))
    return (_header(content), *arrays)


def _header(content: RecordDict) -> object:
    record = items(content).get(STEP_KEY)
    return record.get(STEP_KEY) if isinstance(record, ConfigRecord) else None
