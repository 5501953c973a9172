"""A party that lives for one message: what it knows is in Flower's `Context.state` from one process to the next.

Between two rounds that is what a checkpoint holds. Within a round there is more: graphs, and whatever a handler kept.
That cannot be stored, but it can be made again: the messages of the round at hand are kept, opened, and the next
process runs their hops again before the new one. What is random is drawn by step, so the same is made.
"""

from __future__ import annotations

import ast
import fcntl
import json
import os
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any, BinaryIO, cast

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from torch import Tensor

from parties import saved
from parties.controls import GREETINGS
from parties.frames import pack, unpack
from parties.party import Party
from parties.spec import PartySpec
from vfl.channel import Channel
from vfl.errors import PartyGoneError
from vfl.grid import PLAY
from vfl.types import Envelope
from vfl.wire import decode, encode, mail, merge, read_step, step_record

TENSORS, FACTS, TURNS = "vfl.tensors", "vfl.facts", "turns"
_STYPE = "vfl.state.v1"


def answer(make: Callable[[PartySpec], Party], spec: PartySpec, message: Message, context: Context) -> Message:
    """Return a party's reply to one message, taking the party from the context's state and leaving it there again.

    Raises `PartyGoneError` where another process has gone on from the same state: both would seal under one nonce.
    """
    action = message.metadata.message_type.partition(".")[2]
    party = make(spec)
    party.called = _called(context.state)
    anew = action == "hello" and not party.was_called(message.content)
    with _turn(spec, context.state, anew):
        return _answer(party, action, anew, message, context)


def _answer(party: Party, action: str, anew: bool, message: Message, context: Context) -> Message:
    """Answer a message and leave the party in the state; a message that is refused leaves the state as it was."""
    facts, journal = _wake(party, context.state)
    kept: ArrayRecord | None = None
    if action == PLAY:
        step, names = read_step(message.content)
        if journal and step.index > read_step(journal[-1])[0].index:
            kept, facts["state"], journal = *_keep(party), []
        heard: list[Envelope] = []
        receive = party.inbox.receive

        def listen(index: int, key: str, record: ArrayRecord) -> Envelope:
            heard.append(receive(index, key, record))
            return heard[-1]

        party.inbox = cast(Any, _Ear(listen))
        acted = len(party.entry.answers), party.entry.step
        reply = party.app(message, context)
        if acted != (len(party.entry.answers), party.entry.step):  # else it was answered as it was before
            journal.append(merge(step_record(step, names), [encode(envelope, "raw") for envelope in heard]))
    else:
        reply = party.app(message, context)
        if anew:
            facts, journal = _forget(context.state), []
        elif action not in GREETINGS:
            kept, facts["state"], journal = *_keep(party), []
    if kept is not None:
        context.state[TENSORS] = kept
    _sleep(party, context.state, facts, journal)
    return reply


@contextmanager
def _turn(spec: PartySpec, state: RecordDict, anew: bool) -> Generator[None]:
    """Hold the party's turn: one process at a time, and each from the state that the one before it left.

    How many turns there were is in the party's folder and in the state, and the two must agree. Where a greeting is
    `anew` they need not: it puts another state in the place of this one, and where it is refused it takes no turn.
    """
    path = spec.path(TURNS)
    if path is None:
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        stream.seek(0)
        taken = int(stream.read() or b"0")
        record = state.config_records.get(TURNS, ConfigRecord())
        if not anew and record.get("taken", taken) != taken:
            raise PartyGoneError(f"{spec.party} died: its state is not what its last process left", spec.party)
        if not anew:
            _take(stream, state, taken + 1)
        yield
        if anew:
            _take(stream, state, taken + 1)


def _take(stream: BinaryIO, state: RecordDict, turn: int) -> None:
    stream.truncate(0)
    stream.write(str(turn).encode())
    stream.flush()
    os.fsync(stream.fileno())
    state[TURNS] = ConfigRecord({"taken": turn})


class _Ear:
    """Stands in for an inbox and keeps what it opened."""

    def __init__(self, receive: Callable[[int, str, ArrayRecord], Envelope]) -> None:
        self.receive = receive


def _forget(state: RecordDict) -> dict[str, Any]:
    """Drop what the state holds, after a greeting: the run begins, or all go on from a checkpoint."""
    for key in (TENSORS, FACTS):
        if key in state:
            del state[key]
    return {}


def _called(state: RecordDict) -> tuple[object, RecordDict]:
    """Return the last control call that the state knows of, and what was replied."""
    record = state.config_records.get(FACTS)
    if record is None:
        return None, RecordDict()
    content, told = unpack(cast(list[bytes], record["answers"])[0])
    return told["call"], content


def _wake(party: Party, state: RecordDict) -> tuple[dict[str, Any], list[RecordDict]]:
    """Bring a new party to where the one before it was; returns the facts and the messages of the round at hand."""
    record = state.config_records.get(FACTS)
    if record is None:
        return {}, []
    facts: dict[str, Any] = json.loads(cast(str, record["facts"]))
    answers = [unpack(entry) for entry in cast(list[bytes], record["answers"])[1:]]
    journal = [unpack(entry)[0] for entry in cast(list[bytes], record["journal"])]
    party.go_on_without(facts["absent"])
    if "state" in facts:
        saved.load(party, _tensors(state.array_records.get(TENSORS, ArrayRecord())), facts["state"])
    if party.channel is not None and "channel" in facts:
        party.use(Channel.resumed(party.spec.party, party.spec.credentials, facts["channel"]))
    for content in journal:
        step, names = read_step(content)
        party.replay(step, names, [decode(key, each) for key, each in mail(content).items()])
    party.entry.step = int(facts["at"])
    party.schedule.place, party.schedule.at = tuple(facts["place"]), int(facts["round"])
    party.entry.answers = {tuple(told["hops"]): (ast.literal_eval(told["of"]), content) for content, told in answers}
    return facts, journal


def _sleep(party: Party, state: RecordDict, facts: dict[str, Any], journal: list[RecordDict]) -> None:
    facts["at"], facts["absent"] = party.entry.step, party.outbox.without
    facts["place"], facts["round"] = party.schedule.place, party.schedule.at
    if party.channel is not None:
        facts["channel"] = party.channel.state()
    if party.outbox.recorder:
        party.outbox.recorder.flush()
    answers = [pack(party.called[1], {"call": party.called[0]})]
    answers += [pack(content, {"hops": hops, "of": repr(of)}) for hops, of, content in party.entry.state()]
    state[FACTS] = ConfigRecord(
        {"facts": json.dumps(facts), "journal": [pack(content) for content in journal], "answers": answers}
    )


def _keep(party: Party) -> tuple[ArrayRecord | None, dict[str, Any]]:
    """Return a party's tensors, `None` where it has none, and its facts."""
    tensors, facts = saved.state(party)
    return ArrayRecord({name: _array(value) for name, value in tensors.items()}) or None, facts


def _array(value: Tensor) -> Array:
    plain = value.contiguous().numpy()
    return Array(dtype=plain.dtype.str, shape=plain.shape, stype=_STYPE, data=plain.tobytes())


def _tensors(record: Mapping[str, Array]) -> dict[str, Tensor]:
    return {
        name: torch.from_numpy(np.frombuffer(bytearray(array.data), dtype=array.dtype).reshape(array.shape))
        if array.data
        else torch.empty(array.shape, dtype=torch.from_numpy(np.empty(0, array.dtype)).dtype)
        for name, array in record.items()
    }
