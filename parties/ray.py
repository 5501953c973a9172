"""RayGrid: one long-lived Ray actor a party, each loading its own shard; tensors go from actor to actor.

A training round is compiled once into a Ray graph (`experimental_compile`) and executed per step: publishers' forward
beside the advertiser's own bottom, then the top, then both backwards side by side. Where a graph cannot be compiled,
and for rounds that run seldom (alignment, evaluation), plain actor calls pass object references instead. Either way the
driver sees step headers and reports, never a tensor.

Ray's own pickling carries the messages here: a simulation on machines one person owns, no trust boundary.
"""

from __future__ import annotations

import logging
import os
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, cast

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

import ray
from flwr.app import ArrayRecord, Message
from ray.dag import InputNode, MultiOutputNode
from ray.exceptions import GetTimeoutError, RayActorError, RayChannelError, RayError, RayTaskError

from parties.local import make_party
from parties.spec import PartySpec
from vfl.compat_flwr import array, arrays, identify, items, new_context, request
from vfl.errors import PartyError, PartyGoneError, UserError, VflError
from vfl.grid import PLAY, PartyGrid, Report, Roster, category, read_report
from vfl.types import Hop, PartyId, Role, Step
from vfl.wire import mail, merge, parse_step, step_record, step_text

BUFFER_SLACK_BYTES = 64 * 1024
BUFFER_VARIABLE = "RAY_CGRAPH_buffer_size_bytes"
SYSTEM_CONFIG = {"worker_niceness": 0, "max_direct_call_object_size": 2 * 2**20}
STEP_TIMEOUT_S = 600
AHEAD = 3
"""Rounds that are handed out before the reports of an earlier one are read: actors never wait for the driver."""
REVIVE_TIMEOUT_S = 60
PROBE_S = 5

Parcel = tuple[tuple[str, tuple[tuple[str, str, tuple[int, ...], str, bytes], ...]], ...]
"""The envelopes of a Flower message as plain values: Python pickles these in a fraction of the time of its objects."""

_log = logging.getLogger(__name__)


class PartyActor:
    """The shell around one party in its own process: Flower messages in, Flower messages out."""

    def __init__(self, spec: PartySpec) -> None:
        identify()
        self._spec = spec
        self._node = spec.roster.node(spec.party)
        self.reset()

    def reset(self) -> None:
        """Make the party anew, as it was before its first message."""
        self._party = make_party(self._spec)
        self._context = new_context(self._node)

    def carry(self, message: Message) -> Message:
        """Answer one message from the coordinator."""
        return self._party.app(message, self._context)

    def hop(self, name: str, splits: tuple[PartyId, ...], header: str, *given: Parcel | Report) -> object:
        """Run one hop on what earlier hops gave, and return what it sends, one parcel for each taker in `splits`.

        With no takers it returns its report, which is a token for what runs after it as well.
        """
        records = [entry for parcel in given if isinstance(parcel, tuple) for entry in _unpacked(parcel)]
        content = merge(step_record(header, name), records)
        message = request(content, self._node, f"{category(parse_step(header))}.{PLAY}")
        reply = self._party.app(message, self._context)
        if not splits:
            return read_report(self._spec.party, reply)
        parts = [_packed(mail(reply.content, party)) for party in splits]
        return parts[0] if len(parts) == 1 else tuple(parts)


def _packed(records: Mapping[str, ArrayRecord]) -> Parcel:
    return tuple(
        (key, tuple((name, each.dtype, each.shape, each.stype, each.data) for name, each in items(record).items()))
        for key, record in records.items()
    )


def _unpacked(parcel: Parcel) -> Iterator[tuple[str, ArrayRecord]]:
    for key, parts in parcel:
        yield key, arrays({name: array(dtype, shape, stype, data) for name, dtype, shape, stype, data in parts})


@dataclass(slots=True)
class RayCarrier:
    """Reaches the actors. At most one compiled graph is alive at a time, the one of the training round at hand."""

    roster: Roster
    actors: dict[PartyId, Any]
    make: Callable[[PartyId], Any]
    use_graph: bool = True
    path: str = "calls"
    timeout_s: float = STEP_TIMEOUT_S
    _graph: Any = None
    _graph_hops: tuple[Hop, ...] = ()
    _owns_ray: bool = field(default=False)

    def carry(self, messages: Sequence[Message]) -> Sequence[Message]:
        """Deliver messages, all actors at work side by side."""
        nodes = {self.roster.node(party): party for party in self.roster.ids()}
        targets = [nodes[message.metadata.dst_node_id] for message in messages]
        calls = [self.actors[party].carry.remote(message) for party, message in zip(targets, messages, strict=True)]
        return [_get(call, party, self.timeout_s) for call, party in zip(calls, targets, strict=True)]

    def play(self, hops: tuple[Hop, ...], step: Step) -> dict[PartyId, Report]:
        """Play one round: over the compiled graph when it trains, by plain calls otherwise."""
        if self.use_graph and category(step) == "train":
            return next(self._play_graph(hops, [step]))
        return self._play_calls(hops, step)

    def stream(self, hops: tuple[Hop, ...], steps: Iterable[Step]) -> Iterator[dict[PartyId, Report]]:
        """Play training rounds over the compiled graph, some of them under way at a time; others one by one."""
        steps = list(steps)
        if self.use_graph and all(category(step) == "train" for step in steps):
            yield from self._play_graph(hops, steps)
        else:
            for step in steps:
                yield self.play(hops, step)

    def close(self) -> None:
        """Tear the graph down, kill the actors, and stop the Ray that this grid started."""
        self._teardown()
        for actor in self.actors.values():
            ray.kill(actor)
        self.actors = {}
        if self._owns_ray:
            ray.shutdown()

    def kill(self, party: PartyId) -> None:
        """Kill a party's process."""
        ray.kill(self.actors[party])

    def revive(self) -> None:
        """Put a new actor in the place of each that died, and make the parties of the others anew."""
        self._teardown()
        calls = {party: actor.reset.remote() for party, actor in self.actors.items()}
        for party, call in calls.items():
            try:
                ray.get(call, timeout=REVIVE_TIMEOUT_S)
            except (RayError, VflError):
                ray.kill(self.actors[party])
                self.actors[party] = self.make(party)

    def _play_graph(self, hops: tuple[Hop, ...], steps: Sequence[Step]) -> Iterator[dict[PartyId, Report]]:
        if not self._ready(hops):
            yield from (self._play_calls(hops, step) for step in steps)
            return
        leaves = _leaves(self.roster, hops)
        under_way: deque[Any] = deque()
        try:
            for step in steps:
                under_way.append(self._graph.execute(step_text(step)))
                if len(under_way) > AHEAD:
                    yield _reports(self.roster, leaves, ray.get(under_way.popleft(), timeout=self.timeout_s))
            while under_way:
                yield _reports(self.roster, leaves, ray.get(under_way.popleft(), timeout=self.timeout_s))
        except (RayError, VflError) as error:
            self._teardown()  # first: what is dropped of a live graph reads its channels once more, a dead party's too
            under_way.clear()
            raise _explain(error, "a party") from error
        finally:
            for outputs in under_way:  # nobody reads these any more; what comes next must find the actors idle
                with suppress(RayError, VflError):
                    ray.get(outputs, timeout=self.timeout_s)

    def _ready(self, hops: tuple[Hop, ...]) -> bool:
        """Have the graph of these hops compiled; says whether that can be done."""
        if self.use_graph and self._graph_hops != hops:
            self._teardown()
            try:
                self._graph, self._graph_hops = _compile(self.roster, self.actors, hops), hops
                self.path = "graph"
            except (RayError, ValueError, TypeError, RuntimeError) as error:
                _log.warning("no compiled graph (%s); using plain calls, which are slower", error)
                self.use_graph = False
        return self.use_graph

    def _play_calls(self, hops: tuple[Hop, ...], step: Step) -> dict[PartyId, Report]:
        header = step_text(step)
        given: dict[tuple[str, PartyId], Any] = {}
        for hop in hops:
            splits = _splits(self.roster, hops, hop)
            for party in self.roster.of(hop.role):
                call = self.actors[party].hop.options(num_returns=max(1, len(splits)))
                given[hop.name, party] = call.remote(
                    hop.name, splits, header, *_inputs(self.roster, hops, hop, party, given)
                )
        leaves = _leaves(self.roster, hops)
        return _reports(self.roster, leaves, [_get(given[leaf], leaf[1], self.timeout_s) for leaf in leaves])

    def _teardown(self) -> None:
        if self._graph is not None:
            self._graph.teardown()
        self._graph, self._graph_hops = None, ()


def ray_grid(
    specs: Sequence[PartySpec],
    transport: str,
    largest_body_bytes: int,
    address: str | None = None,
    timeout_s: float = STEP_TIMEOUT_S,
) -> PartyGrid:
    """Return a grid of one actor a party. Starts Ray unless it runs already; `address` joins a cluster.

    `largest_body_bytes` is the largest body of the run: graph buffers are fixed when it is compiled, and a message
    that outgrows its buffer makes Ray hang on teardown. A party that says nothing for `timeout_s` counts as gone.
    """
    owns = start_ray(2 * largest_body_bytes + BUFFER_SLACK_BYTES, address)
    roster = specs[0].roster
    maker = ray.remote(PartyActor)
    variables = {BUFFER_VARIABLE: os.environ[BUFFER_VARIABLE], "OMP_NUM_THREADS": str(specs[0].train.threads)}
    told = {spec.party: spec for spec in specs}

    def make(party: PartyId) -> Any:  # noqa: ANN401 - an actor's handle has no public type
        role = told[party].role
        place = {role.value: 0.001} if address and _offers(role) else None
        options = {"num_cpus": 0, "resources": place, "runtime_env": {"env_vars": variables}}
        return maker.options(**options).remote(told[party])

    carrier = RayCarrier(roster, {party: make(party) for party in told}, make, timeout_s=timeout_s, _owns_ray=owns)
    return PartyGrid(roster, carrier, "relay" if transport == "relay" else "direct")


def start_ray(buffer_bytes: int, address: str | None) -> bool:
    """Start or join Ray with graph buffers of `buffer_bytes`; returns whether this call started it."""
    os.environ[BUFFER_VARIABLE] = str(buffer_bytes)
    from ray.dag.context import DAGContext

    DAGContext.get_current().buffer_size_bytes = buffer_bytes
    return boot(address)


def boot(address: str | None) -> bool:
    """Start or join Ray, whose graphs' buffers may be fixed later; returns whether this call started it."""
    if address:
        _require_reachable(address)
    if ray.is_initialized():
        return False
    options: dict[str, Any] = {"include_dashboard": False, "log_to_driver": False, "logging_level": logging.ERROR}
    if address:
        try:
            ray.init(address=address, **options)
        except (ConnectionError, ValueError, RuntimeError) as error:
            message = f"no Ray cluster can be joined there ({_first_line(error)}); check that `ray start` ran"
            raise UserError(message, key=address, where="--ray-address") from None
        return True
    local: dict[str, Any] = {**options, "address": "local", "num_cpus": 2, "object_store_memory": 256 * 2**20}
    try:
        ray.init(_system_config=SYSTEM_CONFIG, **local)
    except (TypeError, ValueError, KeyError):
        ray.init(**local)
    return True


def stop_ray() -> None:
    """Stop the Ray of this process."""
    ray.shutdown()


def _require_reachable(address: str) -> None:
    """Raise `UserError` where no Ray answers at `HOST:PORT` within seconds; Ray itself tries for more than a minute."""
    if address == "auto" or os.environ.get("RAY_USE_TLS") == "1":
        return
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdecimal():
        raise UserError(
            "got no address, allowed auto or HOST:PORT; see `ray status`", key=address, where="--ray-address"
        )
    import grpc

    channel: Any = grpc.insecure_channel(address)
    try:
        cast(Any, grpc).channel_ready_future(channel).result(timeout=PROBE_S)
    except grpc.FutureTimeoutError:
        message = f"no Ray cluster answers there within {PROBE_S} s; check that `ray start` ran, and the port"
        raise UserError(message, key=address, where="--ray-address") from None
    finally:
        channel.close()


def _offers(role: Role) -> bool:
    return role.value in ray.cluster_resources()


def _splits(roster: Roster, hops: tuple[Hop, ...], hop: Hop) -> tuple[PartyId, ...]:
    return roster.takers(hops, hop) if hop.gives is not None else ()


def _inputs(
    roster: Roster, hops: tuple[Hop, ...], hop: Hop, party: PartyId, given: dict[tuple[str, PartyId], Any]
) -> list[Any]:
    found: list[Any] = []
    for name in hop.takes:
        source = next(other for other in hops if other.name == name)
        splits = _splits(roster, hops, source)
        senders = roster.of(source.role) if source.gives is not None else (party,)
        for sender in senders:
            parts = given[name, sender]
            found.append(parts[splits.index(party)] if len(splits) > 1 else parts)
    return found


def _leaves(roster: Roster, hops: tuple[Hop, ...]) -> list[tuple[str, PartyId]]:
    taken = {name for hop in hops for name in hop.takes}
    return [(hop.name, party) for hop in hops if hop.name not in taken for party in roster.of(hop.role)]


def _compile(roster: Roster, actors: dict[PartyId, Any], hops: tuple[Hop, ...]) -> Any:  # noqa: ANN401 - Ray's own type is not public
    given: dict[tuple[str, PartyId], Any] = {}
    with InputNode() as header:
        for hop in hops:
            splits = _splits(roster, hops, hop)
            for party in roster.of(hop.role):
                inputs = _inputs(roster, hops, hop, party, given)
                method = actors[party].hop
                bound = method.options(num_returns=len(splits)) if len(splits) > 1 else method
                given[hop.name, party] = bound.bind(hop.name, splits, header, *inputs)
        graph = MultiOutputNode([given[leaf] for leaf in _leaves(roster, hops)])
    return graph.experimental_compile(_submit_timeout=STEP_TIMEOUT_S)


def _reports(roster: Roster, leaves: list[tuple[str, PartyId]], replies: Sequence[Report]) -> dict[PartyId, Report]:
    reports: dict[PartyId, Report] = {party: {} for party in roster.ids()}
    for (_, party), reply in zip(leaves, replies, strict=True):
        reports[party].update(reply)
    return reports


def _get(call: Any, party: PartyId, timeout_s: float) -> Any:  # noqa: ANN401 - a Ray object reference, and its value
    try:
        return ray.get(call, timeout=timeout_s)
    except RayError as error:
        raise _explain(error, party) from error


def _explain(error: Exception, party: PartyId) -> VflError:
    """Return an error of ours for one of Ray's: the party's own where it raised one, else that it failed or died."""
    cause = error.cause if isinstance(error, RayTaskError) else error
    if isinstance(cause, UserError | VflError):
        return cause
    if isinstance(error, RayActorError | RayChannelError | GetTimeoutError):
        return PartyGoneError(f"{party} died or stayed away: {_first_line(error)}", party)
    return PartyError(f"{party} failed: {type(cause).__name__}: {_first_line(cause)}")


def _first_line(error: BaseException | None) -> str:
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip()
    return text.splitlines()[-1] if text else type(error).__name__
