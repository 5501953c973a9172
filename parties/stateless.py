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
from typing import Any, cast

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from torch import Tensor

from parties import saved
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
    with _turn(spec, context.state, anew=action == "hello"):
        return _answer(make(spec), action, message, context)


def _answer(party: Party, action: str, message: Message, context: Context) -> Message:
    facts, journal = _wake(party, context.state)
    if action == "hello" and not party.was_called(message.content):
        facts, journal = _forget(party, context.state), []
    if action == PLAY:
        step, names = read_step(message.content)
        if journal and step.index > read_step(journal[-1])[0].index:
            facts["state"], journal = _keep(party, context.state), []
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
        if action not in ("hello", "meet"):
            facts["state"], journal = _keep(party, context.state), []
    _sleep(party, context.state, facts, journal)
    return reply


@contextmanager
def _turn(spec: PartySpec, state: RecordDict, anew: bool) -> Generator[None]:
    """Hold the party's turn: one process at a time, and each from the state that the one before it left.

    How many turns there were is in the party's folder and in the state, and the two must agree.
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
        stream.truncate(0)
        stream.write(str(taken + 1).encode())
        stream.flush()
        os.fsync(stream.fileno())
        state[TURNS] = ConfigRecord({"taken": taken + 1})
        yield


class _Ear:
    """Stands in for an inbox and keeps what it opened."""

    def __init__(self, receive: Callable[[int, str, ArrayRecord], Envelope]) -> None:
        self.receive = receive


def _forget(party: Party, state: RecordDict) -> dict[str, Any]:
    """Drop what the state holds, before a greeting: the run begins, or all go on from a checkpoint."""
    for key in (TENSORS, FACTS):
        if key in state:
            del state[key]
    party.entry.reset()
    return {}


def _wake(party: Party, state: RecordDict) -> tuple[dict[str, Any], list[RecordDict]]:
    """Bring a new party to where the one before it was; returns the facts and the messages of the round at hand."""
    record = state.config_records.get(FACTS)
    if record is None:
        return {}, []
    facts: dict[str, Any] = json.loads(cast(str, record["facts"]))
    called, *answers = [unpack(entry) for entry in cast(list[bytes], record["answers"])]
    party.called = (called[1]["call"], called[0])
    journal = [unpack(entry)[0] for entry in cast(list[bytes], record["journal"])]
    if "state" in facts:
        saved.load(party, _tensors(state.array_records.get(TENSORS, ArrayRecord())), facts["state"])
    if party.channel is not None and "channel" in facts:
        party.use(Channel.resumed(party.spec.party, party.spec.credentials, facts["channel"]))
    for content in journal:
        step, names = read_step(content)
        party.replay(step, names, [decode(key, each) for key, each in mail(content).items()])
    party.entry.step = int(facts["at"])
    party.entry.answers = {tuple(told["hops"]): (ast.literal_eval(told["of"]), content) for content, told in answers}
    return facts, journal


def _sleep(party: Party, state: RecordDict, facts: dict[str, Any], journal: list[RecordDict]) -> None:
    facts["at"] = party.entry.step
    if party.channel is not None:
        facts["channel"] = party.channel.state()
    if party.outbox.recorder:
        party.outbox.recorder.flush()
    answers = [pack(party.called[1], {"call": party.called[0]})]
    answers += [pack(content, {"hops": hops, "of": repr(of)}) for hops, of, content in party.entry.state()]
    state[FACTS] = ConfigRecord(
        {"facts": json.dumps(facts), "journal": [pack(content) for content in journal], "answers": answers}
    )


def _keep(party: Party, state: RecordDict) -> dict[str, Any]:
    """Put a party's tensors into the state, and return its facts."""
    tensors, facts = saved.state(party)
    record = ArrayRecord({name: _array(value) for name, value in tensors.items()})
    if record:
        state[TENSORS] = record
    return facts


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
