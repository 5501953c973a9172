"""What real links and machines do to a run: latency, loss, duplicates, and parties that die.

A wrapper over any carrier. It changes what a run costs and never what it computes: a lost message or answer is asked
for again, a duplicate is answered and not acted on twice (`parties.entry`), and a party that dies goes on from its
checkpoint, so the digest is that of a calm run.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from flwr.app import Message

from vfl.errors import PartyGoneError
from vfl.grid import Carrier, PartyGrid, Report, Roster, walk
from vfl.seeds import Seeds
from vfl.types import Hop, PartyId, Step


@dataclass(frozen=True, slots=True)
class Faults:
    """Chances, 0 to below 1, for each message: `loss` of it or of its answer, `duplicate`, and `crash` of its party.

    `latency_s` is added once to messages that travel side by side. A message is sent up to `retries` times more before
    its party counts as gone.
    """

    latency_s: float = 0.0
    loss: float = 0.0
    duplicate: float = 0.0
    crash: float = 0.0
    retries: int = 8

    @property
    def none(self) -> bool:
        """Whether links and machines are perfect."""
        return not (self.latency_s or self.loss or self.duplicate or self.crash)


@dataclass(slots=True)
class FaultyCarrier:
    """Carries messages over another carrier as a bad network would. `counts` says how often what happened."""

    roster: Roster
    inner: Carrier
    faults: Faults
    rng: np.random.Generator
    counts: dict[str, int] = field(default_factory=dict[str, int])

    @property
    def path(self) -> str:
        """How messages travel underneath."""
        return self.inner.path

    def carry(self, messages: Sequence[Message]) -> Sequence[Message]:
        """Deliver messages, return the replies in order; raises `PartyGoneError` for a party that is silent or dies."""
        replies: dict[int, Message] = {}
        for _ in range(self.faults.retries + 1):
            open_ = [place for place in range(len(messages)) if place not in replies]
            if not open_:
                break
            time.sleep(self.faults.latency_s)
            sent = [place for place in open_ if not self._happens("loss", self.faults.loss / 2)]
            answers = self._deliver([messages[place] for place in sent])
            for place, answer in zip(sent, answers, strict=True):
                if not self._happens("loss", self.faults.loss / 2):
                    replies[place] = answer
        silent = [self._party(messages[place]) for place in range(len(messages)) if place not in replies]
        if silent:
            message = f"{', '.join(silent)} stayed away: no answer to {self.faults.retries + 1} messages"
            raise PartyGoneError(message, silent[0])
        return [replies[place] for place in range(len(messages))]

    def play(self, hops: tuple[Hop, ...], step: Step) -> dict[PartyId, Report]:
        """Play one round, every message of it over the bad network."""
        return walk(self.roster, hops, step, self.carry)

    def kill(self, party: PartyId) -> None:
        """End a party."""
        self.inner.kill(party)

    def revive(self) -> None:
        """Bring the parties back; the network stays as it is."""
        self.inner.revive()

    def close(self) -> None:
        """Let the parties go."""
        self.inner.close()

    def _deliver(self, messages: Sequence[Message]) -> Sequence[Message]:
        before = [self._party(message) for message in messages if self._happens("crash", self.faults.crash / 2)]
        for party in before:
            self.inner.kill(party)
        answers = self.inner.carry(messages) if messages else []
        again = [message for message in messages if self._happens("duplicate", self.faults.duplicate)]
        if again:
            self.inner.carry(again)
        after = [self._party(message) for message in messages if self._happens("crash", self.faults.crash / 2)]
        for party in after:
            self.inner.kill(party)
            raise PartyGoneError(f"{party} died after it had acted on a message", party)
        return answers

    def _happens(self, name: str, chance: float) -> bool:
        if not chance or self.rng.random() >= chance:
            return False
        self.counts[name] = self.counts.get(name, 0) + 1
        return True

    def _party(self, message: Message) -> PartyId:
        return self.roster.party(message.metadata.dst_node_id)


def faulty(grid: PartyGrid, faults: Faults, seeds: Seeds) -> PartyGrid:
    """Return a grid over the same parties whose messages suffer `faults`, drawn from the stream `seeds` has for it."""
    if faults.none:
        return grid
    carrier = FaultyCarrier(grid.roster, grid.carrier, faults, seeds.numpy("faults"))
    return PartyGrid(grid.roster, carrier, grid.transport)
