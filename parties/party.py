"""What all parties have in common: a Flower `ClientApp` whose messages are the hops of a run, and a few control calls.

A party's own knowledge (its rows, networks, labels, streams) is in the `Player` that its role makes; this module moves
messages between it and the wire.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol, cast

import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from torch import Tensor, nn

from parties.controls import CONTROLS, GREETINGS, Given, check_round, check_turn, read_call
from parties.entry import Entry
from parties.failure import failed
from parties.gate import FLAGS_FILE, Gate, gate
from parties.memory import peak_rss_mb
from parties.mounts import mount
from parties.outbox import Inbox, Outbox, Sender
from parties.renewing import renew
from parties.schedule import Schedule
from parties.spec import PartySpec
from vfl import checkpoint
from vfl.align import Aligner
from vfl.channel import Channel
from vfl.compat_flwr import bundle, metrics, reply
from vfl.errors import DataError, PartyGoneError, VflError, WireError
from vfl.exchange import NOTHING, Mail, Outgoing
from vfl.grid import KEEP, PLAY
from vfl.methods import Method, Parts
from vfl.registry import build, find
from vfl.store import TranscriptWriter
from vfl.types import Batch, Envelope, Hop, Kind, PartyId, Pool, Role, Step
from vfl.wire import CALL_KEY, CONTROL_KEY, REPORT_KEY, read_step

OWN_HANDLERS = frozenset(hop.handler for hop in KEEP)
"""What a party answers itself, whatever its player."""
LEARNED = (Kind.EMBEDDING, Kind.GRADIENT)
_EMPTY = torch.empty(0, dtype=torch.int64)


class Player(Protocol):
    """What a role adds: the handlers of its hops, its counts, and the state that a checkpoint must hold."""

    def handler(self, name: str) -> Callable[[Step, Mail], Outgoing]:
        """Return the handler that a hop of this role names."""
        ...

    def prepare(self) -> dict[str, float]:
        """Load rows and build networks once the rows are aligned, and report counts."""
        ...

    def parts(self) -> Parts:
        """Return the modules and optimizers of this party."""
        ...

    def loose(self) -> dict[str, Tensor]:
        """Return tensors beside the parts that a checkpoint must hold."""
        ...

    def resume(self, loose: Mapping[str, Tensor]) -> None:
        """Take back what `loose` gave, before `prepare` is called."""
        ...

    def expected(self, step: Step) -> int | None:
        """Return how many aligned rows a step is about; `None` where this role does not know."""
        ...

    def batch(self, step: Step) -> Batch:
        """Return this party's rows of a step; the referee has none."""
        ...

    def close(self) -> None:
        """Write what this role leaves behind for after the run."""
        ...


@dataclass(slots=True)
class Party:
    """One party of a run. `app` is its Flower `ClientApp`; `handle` is what that app does with every message.

    `senders` notes by the hops of a message what kinds of envelopes they take and of whom.
    """

    spec: PartySpec
    player: Player
    outbox: Outbox
    inbox: Inbox
    gate: Gate
    channel: Channel | None
    hops: Mapping[str, Hop]
    entry: Entry
    schedule: Schedule
    masked: bool = False
    app: ClientApp = field(default_factory=ClientApp)
    kept: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    heard: dict[PartyId, Tensor] = field(default_factory=dict[PartyId, Tensor])
    absent: frozenset[PartyId] = frozenset()
    senders: dict[tuple[str, ...], set[tuple[Kind | None, PartyId]]] = field(
        default_factory=dict[tuple[str, ...], set[tuple[Kind | None, PartyId]]]
    )
    called: tuple[object, RecordDict] = field(default_factory=lambda: (None, RecordDict()))
    prepared: bool = False

    def handle(self, message: Message, context: Context) -> Message:
        """Run the hops that a message names, in order, on its envelopes and return the reply with what they send.

        A message that was acted on before is answered again and changes nothing.
        """
        records = self.entry.admit(message.content)
        self._require_met()
        step, names = read_step(message.content)
        before = self.entry.answered(step.index, names, message.content)
        if before is not None:
            return reply(before, message)
        hops = [self._hop(name) for name in names]
        check_round(self.spec.party, step.phase, self.prepared)
        self.schedule.check(step, names)
        received = [self.inbox.receive(step.index, key, record) for key, record in records.items()]
        content = self._act(step, hops, received)
        self.entry.keep(step.index, names, message.content, content)
        return reply(content, message)

    def _require_met(self) -> None:
        """Raise `PartyGoneError` where the others were greeted by a process that this one has taken the place of."""
        if self.channel is not None and not self.channel.met:
            party = self.spec.party
            raise PartyGoneError(f"{party} died: its process was started anew and has not met the others", party)

    def choose_epoch(self, step: Step, mail: Mail) -> Outgoing:
        """Keep the weights of this epoch, the best so far, and tell the publishers to keep theirs, `(1, 1)`."""
        self.keep_epoch(step, mail)
        told = torch.ones(1, 1)
        return Outgoing(_EMPTY, dict.fromkeys(self.spec.roster.of(Role.PUBLISHER), told))

    def keep_epoch(self, step: Step, mail: Mail) -> Outgoing:
        """Keep the weights of this epoch; `recall` brings the last ones kept back before the test."""
        self.kept = checkpoint.flatten(self._modules())
        return NOTHING

    def control(self, name: str, message: Message, context: Context) -> Message:
        """Answer one of the coordinator's control calls, which carry no envelope and are not on the transcript."""
        self.entry.admit(message.content)
        call, given = read_call(self.spec.party, name, message.content)
        if self.was_called(message.content):
            return reply(self.called[1], message)
        if name not in GREETINGS:
            self._require_met()
        check_turn(self.spec.party, name, self.prepared)
        content = RecordDict()
        answer = getattr(self, f"_{name}")(given)
        if isinstance(answer, ConfigRecord):
            content[CONTROL_KEY] = answer
        else:
            content[REPORT_KEY] = MetricRecord(answer)
        self.called = (call, content)
        return reply(content, message)

    def was_called(self, content: RecordDict) -> bool:
        """Return whether this control call is the last one, come again."""
        call = content.config_records.get(CONTROL_KEY, ConfigRecord()).get(CALL_KEY)
        return call is not None and call == self.called[0]

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return all that this party must have to go on between two rounds: tensors, and facts that JSON can hold."""
        tensors = checkpoint.flatten(self.player.parts())
        tensors.update({f"loose.{key}": value for key, value in self.player.loose().items()})
        tensors.update({f"kept.{key}": value for key, value in self.kept.items()})
        tensors.update({f"heard.{party}": _mean(body) for party, body in self.heard.items()})
        for place, mounted in enumerate(self.outbox.mounted):
            for party, state in mounted.states.items():
                tensors.update({f"defense.{place}.{party}.{key}": value for key, value in state.items()})
        tensors.update({f"guard.{key}": value for key, value in self.gate.loose().items()})
        chains = {party: link.hex() for party, link in self.outbox.chains.items()}
        return tensors, {"chains": chains, "sent_bytes": dict(self.outbox.sent_bytes)}

    def load(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> dict[str, float]:
        """Take back what `state` gave, and report the counts that `prepare` reports."""
        self.player.resume({key.removeprefix("loose."): value for key, value in tensors.items()})
        report = self._prepare({})
        checkpoint.restore(self.player.parts(), tensors)
        self.kept = {key.removeprefix("kept."): value for key, value in tensors.items() if key.startswith("kept.")}
        self.heard = {key[len("heard.") :]: value for key, value in tensors.items() if key.startswith("heard.")}
        self.gate.resume({key[len("guard.") :]: value for key, value in tensors.items() if key.startswith("guard.")})
        self.outbox.chains = {party: bytes.fromhex(link) for party, link in facts["chains"].items()}
        self.outbox.sent_bytes = {Kind(kind): count for kind, count in facts["sent_bytes"].items()}
        for key, value in tensors.items():
            if key.startswith("defense."):
                _, place, party, name = key.split(".", 3)
                self.outbox.mounted[int(place)].states.setdefault(party, {})[name] = value
        return report

    def replay(self, step: Step, names: Sequence[str], received: Sequence[Envelope]) -> None:
        """Run hops again on what they were given, and send and record nothing: what they left behind is there again."""
        outbox = self.outbox
        channel, recorder, outbox.channel, outbox.recorder = outbox.channel, outbox.recorder, None, None
        try:
            self._act(step, [self._hop(name) for name in names], received)
        finally:
            outbox.channel, outbox.recorder = channel, recorder

    def _act(self, step: Step, hops: Sequence[Hop], received: Sequence[Envelope]) -> RecordDict:
        self._refuse_strangers(hops, received)
        received = self.gate.pass_on(step, received)
        sent: list[tuple[str, ArrayRecord]] = []
        report: dict[str, float] = {}
        if step.phase not in ("align", "valid", "test"):
            learned = [each for each in received if each.kind == Kind.EMBEDDING and not self.masked]
            self.heard.update({each.src: each.body for each in learned})
        for hop in hops:
            given = self._mail(step, hop, received)
            try:
                outgoing = self._handler(hop)(step, given)
            except (LookupError, RuntimeError, TypeError, ValueError) as error:
                self._refuse_misfits(step, hop, given, error)
                raise
            sent += self._send(hop, step, outgoing)
            report.update(outgoing.report)
        return bundle({REPORT_KEY: metrics(report)} if report else {}, sent)

    def _refuse_strangers(self, hops: Sequence[Hop], received: Sequence[Envelope]) -> None:
        """Raise `WireError` for an envelope that none of the hops takes: its kind, its sender, or its type."""
        if not received:
            return
        names = tuple(hop.name for hop in hops)
        allowed = self.senders.get(names)
        if allowed is None:
            sources = [self.hops[name] for hop in hops for name in hop.takes]
            allowed = {(hop.gives, party) for hop in sources for party in self.spec.roster.of(hop.role)}
            self.senders[names] = allowed
        for envelope in received:
            stranger = (envelope.kind, envelope.src) not in allowed
            usable = self.masked or envelope.kind not in LEARNED or envelope.body.is_floating_point()
            if not stranger and usable:
                continue
            got = f"{self.spec.party} got the {envelope.kind.value} envelope of {envelope.src!r}"
            asked = "+".join(names)
            if stranger:
                raise WireError(f"{got} at {asked}, which takes none of its kind from there")
            raise WireError(f"{got} of type {envelope.body.dtype} at {asked}; it cannot use the {envelope.kind.value}")

    def _refuse_misfits(self, step: Step, hop: Hop, given: Mail, error: Exception) -> None:
        """Raise `WireError` where a handler failed because of what it was sent: absent mail, or another shape."""
        sources = [self.hops[name] for name in hop.takes if self.hops[name].gives is not None]
        absent = [
            party
            for source in sources
            for party in self.spec.roster.of(source.role)
            if party not in given and source.role != self.spec.role
        ]
        if absent:
            missing = f"no mail of {', '.join(absent)} at {hop.name}"
            raise WireError(f"{self.spec.party} got {missing}; it was cut out on the way") from error
        rows = self.player.expected(step)
        for party, envelope in given.items():
            shape = tuple(envelope.body.shape)
            width = self.spec.model.widths.get(self.spec.party if envelope.kind == Kind.GRADIENT else party)
            if envelope.kind in LEARNED and (shape[1] != width or shape[0] != rows):
                got = f"{envelope.kind.value} of {party} of shape {shape} at {hop.name}"
                raise WireError(f"{self.spec.party} cannot use the {got}, allowed {(rows, width)}") from error

    def _handler(self, hop: Hop) -> Callable[[Step, Mail], Outgoing]:
        return getattr(self, hop.handler) if hop.handler in OWN_HANDLERS else self.player.handler(hop.handler)

    def _hop(self, name: str) -> Hop:
        hop = self.hops.get(name)
        if hop is None or hop.role != self.spec.role:
            raise WireError(f"{self.spec.party} was asked for hop {name!r}, allowed those of a {self.spec.role.value}")
        return hop

    def _mail(self, step: Step, hop: Hop, received: Sequence[Envelope]) -> Mail:
        if not hop.takes:
            return {}
        kinds = {self.hops[name].gives for name in hop.takes}
        found = {envelope.src: envelope for envelope in received if envelope.kind in kinds}
        if not self.absent or Kind.EMBEDDING not in kinds:
            return found
        present = self.spec.roster.ids()
        return {
            party: found[party] if party in found else self._stand_in(step, party)
            for party in present
            if party in found or party in self.absent
        }

    def _stand_in(self, step: Step, party: PartyId) -> Envelope:
        """Return what stands for an absent publisher's embedding: the mean of the last that it sent in training."""
        if party not in self.heard:
            raise PartyGoneError(f"{party} stayed away, and nothing that it sent can stand in for it", party)
        rows = self.player.batch(step).rows
        body = _mean(self.heard[party]).expand(len(rows), -1).clone()
        return Envelope(step.index, Kind.EMBEDDING, party, self.spec.party, rows, body)

    def _send(self, hop: Hop, step: Step, outgoing: Outgoing) -> list[tuple[str, ArrayRecord]]:
        if outgoing.bodies and hop.gives is None:
            raise WireError(f"handler {hop.handler!r} sends bodies, but its hop {hop.name!r} gives nothing")
        if not outgoing.bodies:
            return []
        about = _EMPTY if outgoing.rows is None else outgoing.rows
        rows = about if isinstance(about, Mapping) else dict.fromkeys(outgoing.bodies, about)
        return [
            self.outbox.send(
                Envelope(
                    step.index, cast(Kind, hop.gives), self.spec.party, party, rows[party], outgoing.bodies[party]
                ),
                outgoing.by_class,
                learning=step.pool not in (Pool.VALID, Pool.TEST),
            )
            for party in outgoing.bodies  # one at a time: an alignment's may be large, and made when asked for
            if party not in self.absent
        ]

    def _hello(self, given: Given) -> ConfigRecord:
        """Begin anew: a channel with fresh keys, no step acted on, and nothing recorded unless the run is resumed.

        Raises `WireError` where this party's folder holds a finished run: masks and secrets are not to be used again.
        """
        absent = frozenset(filter(None, str(given["absent"]).split("|")))
        if strangers := absent - {*self.spec.roster.of(Role.PUBLISHER)}:
            raise WireError(f"{self.spec.party} is to do without {', '.join(sorted(strangers))[:40]}, no publisher")
        final = self.spec.path("checkpoints", "final.safetensors")
        if given["fresh"] and final is not None and final.is_file():
            raise WireError(f"{self.spec.party} has finished this run, and takes part in it once; begin another one")
        self.entry.reset()
        self.schedule.reset()
        self.absent, self.prepared = absent, False
        self.outbox.without = tuple(sorted(self.absent))
        if self.outbox.recorder and given["fresh"]:
            self.outbox.recorder.cut_back(0)
        if self.channel is None:
            return ConfigRecord()
        self.channel = Channel(self.spec.party, self.spec.credentials)
        self.outbox.channel = self.inbox.channel = self.channel
        return ConfigRecord({"hello": self.channel.hello()})

    def _meet(self, given: Given) -> ConfigRecord:
        if self.channel is None:
            if given:
                raise WireError(f"{self.spec.party} got greetings, and this run seals nothing; it takes none")
            return ConfigRecord()
        hellos = {party: hello for party, hello in given.items() if isinstance(hello, bytes)}
        absent = [party for party in self.spec.roster.ids() if party not in hellos and party not in self.absent]
        strangers = [party for party in given if party not in hellos or party not in self.spec.roster.ids()]
        if absent or strangers:
            odd = f"without {', '.join(absent)}" if absent else f"of {', '.join(strangers)}, who takes no part"
            raise WireError(f"{self.spec.party} got greetings {odd}; it takes one of every party, and of nobody else")
        self.channel.meet(hellos)
        return ConfigRecord()

    def _prepare(self, given: Given) -> dict[str, float]:
        report = self.player.prepare()
        self.schedule.rows, self.prepared = report, True
        return report

    def _checkpoint(self, given: Given) -> dict[str, float]:
        step = cast(int, given["step"])
        self._save(f"step-{step:09d}", step)
        self._forget(keep=3)  # the coordinator's last two, and this one, of which it may never hear
        return {}

    def _restore(self, given: Given) -> dict[str, float]:
        step = cast(int, given["step"])
        path = self.spec.path("checkpoints", f"step-{step:09d}.safetensors")
        if path is None:
            raise DataError(f"{self.spec.party} keeps no checkpoints; give it a folder of its own")
        report = self.load(*checkpoint.load(path))
        if self.outbox.recorder:
            self.outbox.recorder.cut_back(step)
        return report

    def _recall(self, given: Given) -> dict[str, float]:
        if self.kept:
            checkpoint.restore(self._modules(), self.kept)
        return {}

    def _renew(self, given: Given) -> dict[str, float]:
        pass_ = (str(given["phase"]), cast(int, given["epoch"]))
        if pass_[0] not in (phase.name for phase in self.schedule.phases):
            raise WireError(
                f"{self.spec.party} is to renew before phase {pass_[0][:40]!r}, which its plan does not have"
            )
        return {"renewed": float(renew(self.player.parts(), self.spec.seeds, pass_))}

    def _modules(self) -> Parts:
        return {name: part for name, part in self.player.parts().items() if isinstance(part, nn.Module)}

    def _finish_run(self, given: Given) -> ConfigRecord:
        if self.outbox.recorder:
            self.outbox.recorder.flush()
        self._save("final", -1)
        self.player.close()
        chains = {f"chain/{party}": link.hex() for party, link in self.outbox.chains.items()}
        counts = {f"bytes/{kind.value}": count for kind, count in self.outbox.sent_bytes.items()}
        return ConfigRecord({"peak_rss_mb": peak_rss_mb(), **chains, **counts, **self._flags()})

    def _flags(self) -> dict[str, list[int]]:
        """Write which rows the guards flagged to this party's own folder, and return how many."""
        path = self.spec.path(FLAGS_FILE)
        if path is not None and self.gate.posted:
            checkpoint.save(path, self.gate.flags(), {})
        return self.gate.report()

    def _save(self, name: str, step: int) -> None:
        path = self.spec.path("checkpoints", f"{name}.safetensors")
        if path is None:
            return
        if self.outbox.recorder:
            self.outbox.recorder.flush()
        tensors, facts = self.state()
        checkpoint.save(path, tensors, {"step": step, **facts})

    def _forget(self, keep: int) -> None:
        folder = self.spec.path("checkpoints")
        for path in [] if folder is None else sorted(folder.glob("step-*.safetensors"))[:-keep]:
            path.unlink()


def join(
    spec: PartySpec,
    player: Player,
    labels: Callable[[Tensor], Tensor] | None = None,
    own: Callable[[Step, Tensor], Batch | None] = lambda step, rows: None,
    known: Callable[[PartyId], Batch | None] = lambda party: None,
) -> Party:
    """Return a party: its role's player behind an inbox and an outbox, and its Flower `ClientApp`.

    `labels` and `own` give its own labels, and its own rows, of some handles to its defenses; `known` gives its attacks
    what they are granted of another party's.
    """
    torch.set_num_threads(spec.train.threads)
    transcript = spec.path("transcript")
    recorder = TranscriptWriter(transcript, spec.record_every) if transcript and spec.record_every else None
    channel = Channel(spec.party, spec.credentials) if spec.channel else None
    sender = Sender(spec.party, spec.classes, spec.seeds, labels)
    schedule = planned(spec)
    hops = {hop.name: hop for hop in run_hops(schedule)}
    mounts = mount(spec.defenses, spec.seeds, spec.classes, spec.tampers)
    outbox = Outbox(sender, spec.codec, mounts.mounted, recorder, channel)
    watched = gate(sender, outbox.mounted, own, outbox.last, known)
    inbox, entry = Inbox(spec.party, recorder, channel), Entry(spec.party, spec.limits)
    masked = getattr(find("method", str(spec.method["name"])), "masked", False)
    party = Party(spec, player, outbox, inbox, watched, channel, hops, entry, schedule, masked)
    _register(party)
    return party


def planned(spec: PartySpec) -> Schedule:
    """Return the rounds of a run as a party's own options have them."""
    aligner: Aligner = build("align", spec.align)
    method: Method = build("method", spec.method)
    phases = method.phases(spec.train.options())
    return Schedule(spec.party, spec.role, aligner.hops, phases, method.evaluate, KEEP)


def run_hops(schedule: Schedule) -> list[Hop]:
    """Return every hop of a run: alignment, training phases, evaluation, the choice of an epoch."""
    training = [hop for phase in schedule.phases for hop in phase.hops]
    found = dict.fromkeys([*schedule.align, *training, *schedule.evaluate, *schedule.keep])
    if len({hop.name for hop in found}) < len(found):
        raise ValueError(f"got two different hops of one name among {[hop.name for hop in found]}; rename one")
    return list(found)


def _register(party: Party) -> None:
    def serve(action: str, answer: Callable[[Message, Context], Message]) -> Callable[[Message, Context], Message]:
        def call(message: Message, context: Context) -> Message:
            try:
                return answer(message, context)
            except VflError:
                raise
            except Exception as error:
                raise failed(party.spec.party, action, error) from None

        return call

    for kind in (party.app.train, party.app.evaluate, party.app.query):
        kind(PLAY)(serve(PLAY, party.handle))
    for name in CONTROLS:
        party.app.query(name)(serve(name, partial(party.control, name)))


def _mean(body: Tensor) -> Tensor:
    """Return the mean row of a body; of a mean row, the row itself."""
    return body.detach().mean(dim=0) if body.ndim == 2 else body
