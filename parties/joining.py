"""How a party is put together for a run: what its options name is built, and its Flower `ClientApp` answers with it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from flwr.app import Context, Message
from torch import Tensor

from parties.absence import Absence
from parties.calls import control
from parties.controls import CONTROLS
from parties.delivery import Delivery
from parties.entry import Entry
from parties.failure import failed
from parties.feedback import Feedback
from parties.gate import gate
from parties.mounts import mount
from parties.outbox import Inbox, Outbox, Sender
from parties.party import Party
from parties.player import Player
from parties.schedule import Schedule
from parties.spec import PartySpec
from vfl.align import Aligner
from vfl.channel import Channel
from vfl.errors import VflError
from vfl.grid import KEEP, PLAY
from vfl.methods import Method
from vfl.registry import build, find
from vfl.store import TranscriptWriter
from vfl.types import Batch, Hop, PartyId, Step

Handle = Callable[[Message, Context], Message]


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
    mounts = mount(spec.defenses, spec.seeds, spec.classes, spec.tampers)
    outbox = Outbox(sender, spec.codec, mounts.mounted, recorder, channel)
    outbox.feedback = Feedback() if spec.feedback else None
    watched = gate(sender, outbox.mounted, own, outbox.last, known)
    schedule = planned(spec)
    hops = {hop.name: hop for hop in run_hops(schedule)}
    masked = getattr(find("method", str(spec.method["name"])), "masked", False)
    party = Party(
        spec,
        player,
        outbox,
        Inbox(spec.party, recorder, channel),
        watched,
        channel,
        Entry(spec.party, spec.limits),
        schedule,
        Delivery(spec, hops, masked),
        Absence(spec.party),
    )
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
    """Have the party's app answer rounds and control calls, with errors that tell others nothing of its data."""

    def serve(action: str, answer: Handle) -> Handle:
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
        party.app.query(name)(serve(name, partial(_control, party, name)))


def _control(party: Party, name: str, message: Message, context: Context) -> Message:
    return control(party, name, message)
