"""What all parties have in common: a Flower `ClientApp` whose messages are the hops of a run, and a few control calls.

A party's own knowledge (its rows, networks, labels, streams) is in the `Player` that its role makes; this module moves
messages between it and the wire.
"""

from __future__ import annotations

import resource
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, cast

import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, MetricRecordValues, RecordDict
from flwr.clientapp import ClientApp
from torch import Tensor, nn

from parties.gate import FLAGS_FILE, Gate, gate
from parties.mounts import mount
from parties.outbox import Inbox, Outbox, Sender
from parties.spec import PartySpec
from vfl import checkpoint
from vfl.align import Aligner
from vfl.channel import Channel
from vfl.compat_flwr import reply
from vfl.errors import WireError
from vfl.exchange import Mail, Outgoing
from vfl.grid import PLAY
from vfl.methods import Method, Parts
from vfl.registry import build
from vfl.store import TranscriptWriter
from vfl.types import Batch, Envelope, Hop, Kind, Step
from vfl.wire import CONTROL_KEY, REPORT_KEY, mail, merge, read_step

CONTROLS = ("hello", "meet", "prepare", "checkpoint", "restore", "keep", "recall", "finish_run")
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

    def close(self) -> None:
        """Write what this role leaves behind for after the run."""
        ...


@dataclass(slots=True)
class Party:
    """One party of a run. `app` is its Flower `ClientApp`; `handle` is what that app does with every message."""

    spec: PartySpec
    player: Player
    outbox: Outbox
    inbox: Inbox
    gate: Gate
    channel: Channel | None
    hops: Mapping[str, Hop]
    app: ClientApp = field(default_factory=ClientApp)
    kept: dict[str, Tensor] = field(default_factory=dict[str, Tensor])

    def handle(self, message: Message, context: Context) -> Message:
        """Run the hops that a message names, in order, on its envelopes and return the reply with what they send."""
        step, names = read_step(message.content)
        came = [self.inbox.receive(step.index, key, record) for key, record in mail(message.content).items()]
        received = self.gate.pass_on(step, came)
        sent: list[tuple[str, ArrayRecord]] = []
        report: dict[str, MetricRecordValues] = {}
        for name in names:
            hop = self._hop(name)
            outgoing = self.player.handler(hop.handler)(step, self._mail(hop, received))
            sent += self._send(hop, step, outgoing)
            report.update(outgoing.report)
        content = merge(None, sent)
        if report:
            content[REPORT_KEY] = MetricRecord(report)
        return reply(content, message)

    def control(self, name: str, message: Message, context: Context) -> Message:
        """Answer one of the coordinator's control calls, which carry no envelope and are not on the transcript."""
        given = message.content.config_records.get(CONTROL_KEY, ConfigRecord())
        content = RecordDict()
        answer = getattr(self, f"_{name}")(given)
        if isinstance(answer, ConfigRecord):
            content[CONTROL_KEY] = answer
        else:
            content[REPORT_KEY] = MetricRecord(answer)
        return Message(content, reply_to=message)

    def _hop(self, name: str) -> Hop:
        hop = self.hops.get(name)
        if hop is None or hop.role != self.spec.role:
            raise WireError(f"{self.spec.party} was asked for hop {name!r}, allowed those of a {self.spec.role.value}")
        return hop

    def _mail(self, hop: Hop, received: Sequence[Envelope]) -> Mail:
        kinds = {self.hops[name].gives for name in hop.takes}
        return {envelope.src: envelope for envelope in received if envelope.kind in kinds}

    def _send(self, hop: Hop, step: Step, outgoing: Outgoing) -> list[tuple[str, ArrayRecord]]:
        if outgoing.bodies and hop.gives is None:
            raise WireError(f"handler {hop.handler!r} sends bodies, but its hop {hop.name!r} gives nothing")
        about = _EMPTY if outgoing.rows is None else outgoing.rows
        rows = about if isinstance(about, Mapping) else dict.fromkeys(outgoing.bodies, about)
        return [
            self.outbox.send(
                Envelope(step.index, cast(Kind, hop.gives), self.spec.party, party, rows[party], body),
                outgoing.by_class,
            )
            for party, body in outgoing.bodies.items()
        ]

    def _hello(self, given: ConfigRecord) -> ConfigRecord:
        return ConfigRecord({"public": self.channel.public()} if self.channel else {})

    def _meet(self, given: ConfigRecord) -> ConfigRecord:
        if self.channel:
            self.channel.meet({party: cast(bytes, public) for party, public in given.items()})
        return ConfigRecord()

    def _prepare(self, given: ConfigRecord) -> dict[str, float]:
        return self.player.prepare()

    def _checkpoint(self, given: ConfigRecord) -> dict[str, float]:
        step = int(cast(int, given["step"]))
        self._save(f"step-{step:09d}", step)
        self._forget(keep=2)
        return {}

    def _restore(self, given: ConfigRecord) -> dict[str, float]:
        step = int(cast(int, given["step"]))
        path = cast(Path, self.spec.path("checkpoints", f"step-{step:09d}.safetensors"))
        tensors, facts = checkpoint.load(path)
        self.player.resume({key.removeprefix("loose."): value for key, value in tensors.items()})
        report = self.player.prepare()
        checkpoint.restore(self.player.parts(), tensors)
        self.kept = {key.removeprefix("kept."): value for key, value in tensors.items() if key.startswith("kept.")}
        self.outbox.chains = {party: bytes.fromhex(link) for party, link in facts["chains"].items()}
        self.outbox.sent_bytes = {Kind(kind): count for kind, count in facts["sent_bytes"].items()}
        for key, value in tensors.items():
            if key.startswith("defense."):
                _, place, party, name = key.split(".", 3)
                self.outbox.mounted[int(place)].states.setdefault(party, {})[name] = value
        self.gate.resume({key[len("guard.") :]: value for key, value in tensors.items() if key.startswith("guard.")})
        if self.outbox.recorder:
            self.outbox.recorder.cut_back(step)
        return report

    def _keep(self, given: ConfigRecord) -> dict[str, float]:
        self.kept = checkpoint.flatten(self._modules())
        return {}

    def _recall(self, given: ConfigRecord) -> dict[str, float]:
        if self.kept:
            checkpoint.restore(self._modules(), self.kept)
        return {}

    def _modules(self) -> Parts:
        return {name: part for name, part in self.player.parts().items() if isinstance(part, nn.Module)}

    def _finish_run(self, given: ConfigRecord) -> ConfigRecord:
        if self.outbox.recorder:
            self.outbox.recorder.flush()
        self._save("final", -1)
        self.player.close()
        peak_rss_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        chains = {f"chain/{party}": link.hex() for party, link in self.outbox.chains.items()}
        counts = {f"bytes/{kind.value}": count for kind, count in self.outbox.sent_bytes.items()}
        return ConfigRecord({"peak_rss_mb": peak_rss_mb, **chains, **counts, **self._flags()})

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
        tensors = checkpoint.flatten(self.player.parts())
        tensors.update({f"loose.{key}": value for key, value in self.player.loose().items()})
        tensors.update({f"kept.{key}": value for key, value in self.kept.items()})
        for place, mounted in enumerate(self.outbox.mounted):
            for party, state in mounted.states.items():
                tensors.update({f"defense.{place}.{party}.{key}": value for key, value in state.items()})
        tensors.update({f"guard.{key}": value for key, value in self.gate.loose().items()})
        chains = {party: link.hex() for party, link in self.outbox.chains.items()}
        checkpoint.save(path, tensors, {"step": step, "chains": chains, "sent_bytes": dict(self.outbox.sent_bytes)})

    def _forget(self, keep: int) -> None:
        folder = cast(Path, self.spec.path("checkpoints"))
        for path in sorted(folder.glob("step-*.safetensors"))[:-keep]:
            path.unlink()


def join(
    spec: PartySpec,
    player: Player,
    labels: Callable[[Tensor], Tensor] | None = None,
    own: Callable[[Step, Tensor], Batch | None] = lambda step, rows: None,
) -> Party:
    """Return a party: its role's player behind an inbox and an outbox, and its Flower `ClientApp`.

    `labels` and `own` give its own labels, and its own rows, of some handles to its defenses.
    """
    torch.set_num_threads(spec.train.threads)
    transcript = spec.path("transcript")
    recorder = TranscriptWriter(transcript, spec.record_every) if transcript and spec.record_every else None
    channel = Channel(spec.party) if spec.channel else None
    sender = Sender(spec.party, spec.classes, spec.seeds, labels)
    hops = {hop.name: hop for hop in run_hops(spec)}
    mounts = mount(spec.defenses, spec.seeds, spec.classes)
    outbox = Outbox(sender, spec.codec, mounts.mounted, recorder, channel)
    watched = gate(sender, mounts.members, own, outbox.last)
    party = Party(spec, player, outbox, Inbox(spec.party, recorder, channel), watched, channel, hops)
    _register(party)
    return party


def run_hops(spec: PartySpec) -> list[Hop]:
    """Return every hop of a run: alignment, training phases, evaluation."""
    aligner: Aligner = build("align", spec.align)
    method: Method = build("method", spec.method)
    training = [hop for phase in method.phases(spec.train.options()) for hop in phase.hops]
    found = dict.fromkeys([*aligner.hops, *training, *method.evaluate])
    if len({hop.name for hop in found}) < len(found):
        raise ValueError(f"got two different hops of one name among {[hop.name for hop in found]}; rename one")
    return list(found)


def _register(party: Party) -> None:
    def serve(name: str) -> Callable[[Message, Context], Message]:
        return lambda message, context: party.control(name, message, context)

    for kind in (party.app.train, party.app.evaluate, party.app.query):
        kind(PLAY)(party.handle)
    for name in CONTROLS:
        party.app.query(name)(serve(name))
