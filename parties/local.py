"""LocalGrid: all parties in this process, messages handed over as they are.

Parties that have work at the same time do it side by side, a thread each as far as there are cores: torch lets go of
the interpreter while it computes. What a party computes does not depend on it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait

from flwr.app import Context, Message

from parties.advertiser import advertiser
from parties.failure import failed
from parties.party import Party
from parties.publisher import publisher
from parties.referee import referee
from parties.spec import PartySpec
from vfl.compat_flwr import identify, new_context
from vfl.errors import PartyError, PartyGoneError, VflError
from vfl.grid import PLAY, PartyGrid, Report, Roster, walk
from vfl.types import Hop, PartyId, Role, Step

SIDE_BY_SIDE_ROWS = 512
"""Below this many rows a step's own work is too short to be worth waking another thread for."""

MAKERS = {Role.PUBLISHER: publisher, Role.ADVERTISER: advertiser, Role.REFEREE: referee}


class LocalCarrier:
    """Calls the `ClientApp` of each party. Messages are real Flower messages; tensors were severed when encoded."""

    def __init__(
        self,
        roster: Roster,
        parties: Mapping[PartyId, Party],
        remake: Callable[[], Mapping[PartyId, Party]] | None = None,
    ) -> None:
        self.path = "local"
        self._roster = roster
        self._remake = remake
        self._seat(parties)
        others = min(len(parties), os.cpu_count() or 1) - 1
        self._threads = ThreadPoolExecutor(others, thread_name_prefix="party") if others else None

    def carry(self, messages: Sequence[Message]) -> Sequence[Message]:
        """Deliver messages, hops side by side and the rest in turn; raises what the first that failed raised."""
        hops = all(message.metadata.message_type.endswith(f".{PLAY}") for message in messages)
        if self._threads is None or not hops or len(messages) < 2:
            return [self._call(message) for message in messages]
        calls = [self._threads.submit(self._call, message) for message in messages[1:]]
        try:
            first = self._call(messages[0])
        finally:
            wait(calls)
        return [first, *(call.result() for call in calls)]

    def play(self, hops: tuple[Hop, ...], step: Step) -> dict[PartyId, Report]:
        """Play one round hop by hop."""
        if 0 < step.size < SIDE_BY_SIDE_ROWS:
            return walk(self._roster, hops, step, self._in_turn, side_by_side=False)
        return walk(self._roster, hops, step, self.carry)

    def close(self) -> None:
        """Let the parties go."""
        self._parties = {}
        if self._threads is not None:
            self._threads.shutdown()

    def _in_turn(self, messages: Sequence[Message]) -> Sequence[Message]:
        return [self._call(message) for message in messages]

    def kill(self, party: PartyId) -> None:
        """Drop a party with all it knows."""
        self._parties.pop(self._roster.node(party), None)

    def revive(self) -> None:
        """Make every party anew from what it was told, as if its process had just started."""
        if self._remake is None:
            raise PartyError("these parties were not made from specs and cannot be made anew")
        self._seat(self._remake())

    def _seat(self, parties: Mapping[PartyId, Party]) -> None:
        self._parties = {self._roster.node(name): party for name, party in parties.items()}
        self._contexts: dict[int, Context] = {node: new_context(node) for node in self._parties}

    def _call(self, message: Message) -> Message:
        node = message.metadata.dst_node_id
        party = self._parties.get(node)
        if party is None:
            name = self._roster.party(node)
            raise PartyGoneError(f"{name} died or stayed away", name)
        try:
            return party.app(message, self._contexts[node])
        except VflError:
            raise
        except Exception as error:
            raise failed(party.spec.party, message.metadata.message_type, error) from error


def make_party(spec: PartySpec) -> Party:
    """Return the party a spec describes, loading its shard in this process."""
    return MAKERS[spec.role](spec)


def local_grid(specs: Sequence[PartySpec], transport: str) -> PartyGrid:
    """Return a grid whose parties all live in this process; the default for tests and for each trial of a sweep."""
    identify()
    roster = specs[0].roster

    def make() -> Mapping[PartyId, Party]:
        return {spec.party: make_party(spec) for spec in specs}

    carrier = LocalCarrier(roster, make(), make)
    return PartyGrid(roster, carrier, "relay" if transport == "relay" else "direct")
