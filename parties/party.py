"""What all parties have in common: a Flower `ClientApp` whose messages are the hops of a run, and a few control calls.

A party's own knowledge (its rows, networks, labels, streams) is in the `Player` that its role makes; this module moves
messages between it and the wire.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from torch import Tensor, nn

from parties.absence import Absence
from parties.controls import check_round
from parties.delivery import Delivery
from parties.entry import Entry
from parties.gate import Gate
from parties.outbox import Inbox, Outbox
from parties.player import Player
from parties.schedule import Schedule
from parties.spec import PartySpec
from vfl import checkpoint
from vfl.channel import Channel
from vfl.compat_flwr import bundle, metrics, reply
from vfl.errors import PartyGoneError, WireError
from vfl.exchange import NOTHING, Mail, Outgoing
from vfl.grid import KEEP
from vfl.methods import Parts
from vfl.types import Envelope, Hop, Kind, PartyId, Pool, Role, Step
from vfl.wire import CALL_KEY, CONTROL_KEY, REPORT_KEY, read_step

OWN_HANDLERS = frozenset(hop.handler for hop in KEEP)
"""What a party answers itself, whatever its player."""
_EMPTY = torch.empty(0, dtype=torch.int64)


@dataclass(slots=True)
class Party:
    """One party of a run. `app` is its Flower `ClientApp`; `handle` is what that app does with a round's messages.

    `kept` are the weights of the best epoch so far; `called` is the last control call and what was replied;
    `prepared` is whether it has its rows. `parties.joining` puts it together.
    """

    spec: PartySpec
    player: Player
    outbox: Outbox
    inbox: Inbox
    gate: Gate
    channel: Channel | None
    entry: Entry
    schedule: Schedule
    delivery: Delivery
    absence: Absence
    app: ClientApp = field(default_factory=ClientApp)
    kept: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    called: tuple[object, RecordDict] = field(default_factory=lambda: (None, RecordDict()))
    prepared: bool = False

    def handle(self, message: Message, context: Context) -> Message:
        """Run the hops that a message names, in order, on its envelopes and return the reply with what they send.

        A message that was acted on before is answered again and changes nothing.
        """
        records = self.entry.admit(message.content)
        self.require_met()
        step, names = read_step(message.content)
        before = self.entry.answered(step.index, names, message.content)
        if before is not None:
            return reply(before, message)
        hops = [self.delivery.hop(name) for name in names]
        check_round(self.spec.party, step.phase, self.prepared)
        self.schedule.check(step, names)
        received = [self.inbox.receive(step.index, key, record) for key, record in records.items()]
        content = self._act(step, hops, received)
        self.entry.keep(step.index, names, message.content, content)
        return reply(content, message)

    def replay(self, step: Step, names: Sequence[str], received: Sequence[Envelope]) -> None:
        """Run hops again on what they were given, and send and record nothing: what they left behind is there again."""
        outbox = self.outbox
        channel, recorder, outbox.channel, outbox.recorder = outbox.channel, outbox.recorder, None, None
        try:
            self._act(step, [self.delivery.hop(name) for name in names], received)
        finally:
            outbox.channel, outbox.recorder = channel, recorder

    def require_met(self) -> None:
        """Raise `PartyGoneError` where the others were greeted by a process that this one has taken the place of."""
        if self.channel is not None and not self.channel.met:
            party = self.spec.party
            raise PartyGoneError(f"{party} died: its process was started anew and has not met the others", party)

    def was_called(self, content: RecordDict) -> bool:
        """Return whether this control call is the last one, come again."""
        call = content.config_records.get(CONTROL_KEY, ConfigRecord()).get(CALL_KEY)
        return call is not None and call == self.called[0]

    def use(self, channel: Channel) -> None:
        """Seal and open with this channel from here on."""
        self.channel = self.outbox.channel = self.inbox.channel = channel

    def go_on_without(self, absent: Iterable[PartyId]) -> None:
        """Expect nothing of these publishers, and send them nothing, from here on."""
        self.absence.absent = frozenset(absent)
        self.outbox.without = tuple(sorted(self.absence.absent))

    def prepare(self) -> dict[str, float]:
        """Load rows and build networks, expect rounds over as many rows, and report counts."""
        report = self.player.prepare()
        self.schedule.rows, self.prepared = report, True
        return report

    def choose_epoch(self, step: Step, mail: Mail) -> Outgoing:
        """Keep the weights of this epoch, the best so far, and tell the publishers to keep theirs, `(1, 1)`."""
        self.keep_epoch(step, mail)
        told = torch.ones(1, 1)
        return Outgoing(_EMPTY, dict.fromkeys(self.spec.roster.of(Role.PUBLISHER), told))

    def keep_epoch(self, step: Step, mail: Mail) -> Outgoing:
        """Keep the weights of this epoch; the call `recall` brings the last ones kept back before the test."""
        self.kept = checkpoint.flatten(self.modules())
        return NOTHING

    def modules(self) -> Parts:
        """Return this party's networks, without their optimizers."""
        return {name: part for name, part in self.player.parts().items() if isinstance(part, nn.Module)}

    def _act(self, step: Step, hops: Sequence[Hop], received: Sequence[Envelope]) -> RecordDict:
        self.delivery.refuse_strangers(hops, received)
        received = self.gate.pass_on(step, received)
        sent: list[tuple[str, ArrayRecord]] = []
        report: dict[str, float] = {}
        if not self.delivery.masked:
            self.absence.hear(step, received)
        for hop in hops:
            given = self._mail(step, hop, received)
            try:
                outgoing = self._handler(hop)(step, given)
            except (LookupError, RuntimeError, TypeError, ValueError) as error:
                self.delivery.refuse_misfits(hop, given, partial(self.player.expected, step), error)
                raise
            sent += self._send(hop, step, outgoing)
            report.update(outgoing.report)
        return bundle({REPORT_KEY: metrics(report)} if report else {}, sent)

    def _handler(self, hop: Hop) -> Callable[[Step, Mail], Outgoing]:
        return getattr(self, hop.handler) if hop.handler in OWN_HANDLERS else self.player.handler(hop.handler)

    def _mail(self, step: Step, hop: Hop, received: Sequence[Envelope]) -> Mail:
        if not hop.takes:
            return {}
        kinds = self.delivery.kinds(hop)
        found = {envelope.src: envelope for envelope in received if envelope.kind in kinds}
        if not self.absence.absent or Kind.EMBEDDING not in kinds:
            return found
        return self.absence.filled(step, found, self.spec.roster.ids(), lambda step: self.player.batch(step).rows)

    def _send(self, hop: Hop, step: Step, outgoing: Outgoing) -> list[tuple[str, ArrayRecord]]:
        if not outgoing.bodies:
            return []
        if hop.gives is None:
            raise WireError(f"handler {hop.handler!r} sends bodies, but its hop {hop.name!r} gives nothing")
        about = _EMPTY if outgoing.rows is None else outgoing.rows
        rows = about if isinstance(about, Mapping) else dict.fromkeys(outgoing.bodies, about)
        return [
            self.outbox.send(
                Envelope(step.index, hop.gives, self.spec.party, party, rows[party], outgoing.bodies[party]),
                outgoing.by_class,
                learning=step.pool not in (Pool.VALID, Pool.TEST),
            )
            for party in outgoing.bodies  # one at a time: an alignment's may be large, and made when asked for
            if party not in self.absence.absent
        ]
