"""What every grid promises: a Flower `Grid` whose nodes are the parties, and rounds of hops played over it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, Protocol, runtime_checkable

from flwr.app import Message, MetricRecord, RecordDict
from flwr.serverapp import Grid

from vfl.compat_flwr import COORDINATOR_NODE, Run, empty_run, identify, request, set_message_id
from vfl.errors import PartyError
from vfl.types import Hop, Kind, PartyId, Role, Step
from vfl.wire import REPORT_KEY, addressed, merge, step_record, step_text

PLAY = "play"
"""Action of every message that plays hops; the step header names which."""

KEEP = (
    Hop("choose_epoch", Role.ADVERTISER, "choose_epoch", gives=Kind.CONTROL),
    Hop("keep_epoch", Role.PUBLISHER, "keep_epoch", takes=("choose_epoch",)),
)
"""The round after the best epoch so far: every party keeps its weights. It tells publishers something of the labels, so
it goes over the wire, where the transcript and the digest have it, and is no call of the coordinator's."""

Report = dict[str, float]
Send = Callable[[Sequence[Message]], Sequence[Message]]


@dataclass(frozen=True, slots=True)
class Roster:
    """Who takes part: party ids and roles in a fixed order; a party's Flower node id is its place, from 1."""

    members: tuple[tuple[PartyId, Role], ...]

    def of(self, role: Role) -> tuple[PartyId, ...]:
        """Return the parties of a role, in order."""
        return tuple(party for party, its_role in self.members if its_role == role)

    def ids(self) -> tuple[PartyId, ...]:
        """Return all parties, in order."""
        return tuple(party for party, _ in self.members)

    def role(self, party: PartyId) -> Role:
        """Return the role of a party."""
        return dict(self.members)[party]

    def node(self, party: PartyId) -> int:
        """Return the Flower node id of a party."""
        return self.ids().index(party) + COORDINATOR_NODE + 1

    def party(self, node: int) -> PartyId:
        """Return the party that has a Flower node id."""
        return self.ids()[node - COORDINATOR_NODE - 1]

    def takers(self, hops: Sequence[Hop], hop: Hop) -> tuple[PartyId, ...]:
        """Return the parties that a hop's envelopes go to: those of every later hop that takes it."""
        roles = {later.role for later in hops if hop.name in later.takes}
        return tuple(party for party, role in self.members if role in roles)


class Carrier(Protocol):
    """How messages reach the parties: in process, over Ray, or over Flower's own network.

    `path` is one of `local`, `calls`, `graph` and `flower`.
    """

    @property
    def path(self) -> str:
        """How the last training round travelled."""
        ...

    def carry(self, messages: Sequence[Message]) -> Sequence[Message]:
        """Deliver messages, which may run side by side, and return the replies in the same order."""
        ...

    def play(self, hops: tuple[Hop, ...], step: Step) -> dict[PartyId, Report]:
        """Play one round with tensors going from party to party, and return what each party reports."""
        ...

    def close(self) -> None:
        """Let the parties go."""
        ...

    def kill(self, party: PartyId) -> None:
        """End a party as a crash would; its next message raises `PartyGoneError`."""
        ...

    def revive(self) -> None:
        """Bring every party back to where it was before its first message, those that died in a new process."""
        ...


@runtime_checkable
class Streams(Protocol):
    """A carrier that starts rounds before the last one is back, where that is faster."""

    def stream(self, hops: tuple[Hop, ...], steps: Iterable[Step]) -> Iterator[dict[PartyId, Report]]:
        """Play rounds of one kind, and yield what each party reports of each, in order."""
        ...


@runtime_checkable
class Waits(Protocol):
    """A carrier whose parties come by themselves, and that waits for each of them."""

    def excuse(self, party: PartyId) -> None:
        """Wait for a party no more."""
        ...


class PartyGrid(Grid):
    """A Flower `Grid` over a carrier. `play` runs one round of a method; everything else is Flower's contract.

    With `transport` `direct` the carrier moves tensors between parties; with `relay` every message passes through the
    coordinator. The bytes on the wire, and so the digest, are the same. `owns` says that this process is a simulation's
    own; one that Flower started has its identity from Flower.
    """

    def __init__(
        self, roster: Roster, carrier: Carrier, transport: Literal["direct", "relay"] = "direct", owns: bool = True
    ) -> None:
        if owns:
            identify()
        self.roster = roster
        self.transport: Literal["direct", "relay"] = transport
        self._carrier = carrier
        self._run = empty_run()
        self._replies: dict[str, Message] = {}
        self._count = 0
        self._excused: set[int] = set()

    def play(self, hops: tuple[Hop, ...], step: Step) -> dict[PartyId, Report]:
        """Play one round and return the figures each party reports; raises `PartyError` where a party failed."""
        if self.transport == "relay" or self._excused:
            return walk(self.roster, hops, step, self._carry)
        return self._carrier.play(hops, step)

    def stream(self, hops: tuple[Hop, ...], steps: Iterable[Step]) -> Iterator[dict[PartyId, Report]]:
        """Play rounds of one kind one after the other, and yield the reports of each; headers may be handed out early.

        Whoever asks for the next reports waits; between two of them rounds may be under way, until the last is back.
        """
        if self.transport == "direct" and not self._excused and isinstance(self._carrier, Streams):
            yield from self._carrier.stream(hops, steps)
        else:
            for step in steps:
                yield self.play(hops, step)

    @property
    def carrier(self) -> Carrier:
        """What reaches the parties."""
        return self._carrier

    @property
    def path(self) -> str:
        """How the last training round travelled."""
        return "relay" if self.transport == "relay" else self._carrier.path

    def close(self) -> None:
        """Let the parties go; the grid cannot be used afterwards."""
        self._carrier.close()

    def revive(self) -> None:
        """Bring every party back to where it was before its first message; what they wrote to disk stays."""
        self._replies.clear()
        self._carrier.revive()

    def excuse(self, party: PartyId) -> None:
        """Go on without a party: what is sent to it is dropped, and answered with nothing."""
        self._excused.add(self.roster.node(party))
        if isinstance(self._carrier, Waits):
            self._carrier.excuse(party)

    def _carry(self, messages: Sequence[Message]) -> Sequence[Message]:
        if not self._excused:
            return self._carrier.carry(messages)
        there = [message for message in messages if message.metadata.dst_node_id not in self._excused]
        replies = iter(self._carrier.carry(there))
        nothing = RecordDict()
        return [
            Message(nothing, reply_to=message) if message.metadata.dst_node_id in self._excused else next(replies)
            for message in messages
        ]

    def set_run(self, run: Run) -> None:
        """Set the run that this grid operates in."""
        self._run = run

    @property
    def run(self) -> Run:
        """The run that this grid operates in."""
        return self._run

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """Return a new message; Flower keeps this call for old code, which now builds a `Message` itself."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """Return the node ids of all parties."""
        return [self.roster.node(party) for party in self.roster.ids()]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Deliver messages and keep their replies until they are pulled; returns the messages' ids."""
        batch = list(messages)
        for message in batch:
            self._count += 1
            set_message_id(message, str(self._count))
        ids = [message.metadata.message_id for message in batch]
        self._replies.update(zip(ids, self._carry(batch), strict=True))
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return the replies that are there for these message ids."""
        return [self._replies.pop(message_id) for message_id in message_ids if message_id in self._replies]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Deliver messages and return all replies."""
        return self.pull_messages(self.push_messages(messages))


_CATEGORIES = {"align": "query", "control": "query", "valid": "evaluate", "test": "evaluate"}


def category(step: Step) -> str:
    """Return Flower's message category for a step: train, evaluate, or query for alignment and control."""
    return _CATEGORIES.get(step.phase, "train")


@dataclass(frozen=True, slots=True)
class Stage:
    """Hops of one role that run on one message."""

    role: Role
    hops: tuple[Hop, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The hops' names, in the order they run."""
        return tuple(hop.name for hop in self.hops)


@lru_cache(maxsize=64)
def levels(hops: tuple[Hop, ...], side_by_side: bool = True) -> tuple[tuple[Stage, ...], ...]:
    """Group a round's hops into levels, at each of which every role has one message at most.

    Stages of one level need nothing of each other and run side by side. A hop waits for what it takes of other roles.
    One that takes what its own role has just sent runs beside those it was sent to, rather than before them. Where
    nothing runs side by side there is no such beside, and as many hops as can share a message do: of publishers, who
    may be several and send to each other, none that takes what another has sent.
    """
    level: dict[str, int] = {}
    last: dict[Role, int] = {}
    by_name = {hop.name: hop for hop in hops}
    for hop in hops:
        taken = [by_name[name] for name in hop.takes]
        beside = side_by_side or hop.role == Role.PUBLISHER
        apart = [other.role != hop.role or (beside and other.gives is not None) for other in taken]
        after = [level[other.name] + later for other, later in zip(taken, apart, strict=True)]
        level[hop.name] = last[hop.role] = max([last.get(hop.role, 0), *after])
    if not side_by_side:
        _put_off(hops, level)
    return tuple(_side_by_side([hop for hop in hops if level[hop.name] == at]) for at in sorted(set(level.values())))


def _put_off(hops: tuple[Hop, ...], level: dict[str, int]) -> None:
    """Move hops that send nothing to the next message that their role gets anyway; the order of a role's hops stays."""
    following: dict[Role, int] = {}
    for hop in reversed(hops):
        if hop.gives is None:
            level[hop.name] = following.get(hop.role, level[hop.name])
        following[hop.role] = level[hop.name]


def _side_by_side(hops: Sequence[Hop]) -> tuple[Stage, ...]:
    roles = dict.fromkeys(hop.role for hop in hops)
    return tuple(Stage(role, tuple(hop for hop in hops if hop.role == role)) for role in roles)


@dataclass(frozen=True, slots=True)
class _Leg:
    """One stage of a round over a given roster, with all that does not change from step to step."""

    stage: Stage
    hops: str
    parties: tuple[PartyId, ...]
    nodes: tuple[int, ...]
    takes: tuple[tuple[str, Kind], ...]


@lru_cache(maxsize=64)
def _route(roster: Roster, hops: tuple[Hop, ...], side_by_side: bool) -> tuple[tuple[_Leg, ...], ...]:
    gives = {hop.name: hop.gives for hop in hops}

    def leg(stage: Stage) -> _Leg:
        names = [name for hop in stage.hops for name in hop.takes if name not in stage.names]
        takes = tuple((name, kind) for name in names if (kind := gives[name]) is not None)
        parties = roster.of(stage.role)
        return _Leg(stage, "|".join(stage.names), parties, tuple(roster.node(party) for party in parties), takes)

    return tuple(tuple(leg(stage) for stage in level) for level in levels(hops, side_by_side))


def walk(
    roster: Roster, hops: tuple[Hop, ...], step: Step, send: Send, side_by_side: bool = True
) -> dict[PartyId, Report]:
    """Play a round level by level over anything that delivers messages and returns replies, in the same order."""
    made: dict[str, list[Message]] = {}
    reports: dict[PartyId, Report] = {}
    header, action = step_text(step), f"{category(step)}.{PLAY}"
    for legs in _route(roster, hops, side_by_side):
        messages = [message for leg in legs for message in _messages(leg, header, action, made)]
        replies = iter(send(messages))
        for leg in legs:
            of_leg = [next(replies) for _ in leg.parties]
            made.update(dict.fromkeys(leg.stage.names, of_leg))
            for party, reply in zip(leg.parties, of_leg, strict=True):
                reports.setdefault(party, {}).update(read_report(party, reply))
    return reports


def _messages(leg: _Leg, header: str, action: str, made: Mapping[str, Sequence[Message]]) -> list[Message]:
    record = step_record(header, leg.hops)
    inputs = [(reply.content, kind) for name, kind in leg.takes for reply in made[name]]
    return [
        request(merge(record, [each for sent in inputs for each in addressed(*sent, party)]), node, action)
        for party, node in zip(leg.parties, leg.nodes, strict=True)
    ]


def read_report(party: PartyId, reply: Message) -> Report:
    """Return the figures in a party's reply; raises `PartyError` if the reply is an error."""
    if reply.has_error():
        raise PartyError(f"{party} failed: {reply.error.reason}")
    record = reply.content.get(REPORT_KEY)
    if not isinstance(record, MetricRecord):
        return {}
    return {key: float(value) for key, value in record.items() if isinstance(value, int | float)}
