"""A party that lives for one message: what it knows is in Flower's `Context.state` from one process to the next.

Between two rounds that is what a checkpoint holds. Within a round there is more: graphs, and whatever a handler kept.
That cannot be stored, but it can be made again: the messages of the round at hand are kept, opened, and the next
process runs their hops again before the new one. What is random is drawn by step, so the same is made.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from torch import Tensor

from parties.frames import pack, unpack
from parties.party import Party
from parties.spec import PartySpec
from vfl.channel import Channel
from vfl.grid import PLAY
from vfl.types import Envelope
from vfl.wire import decode, encode, mail, merge, read_step, step_record

TENSORS, FACTS = "vfl.tensors", "vfl.facts"
_STYPE = "vfl.state.v1"


def answer(make: Callable[[PartySpec], Party], spec: PartySpec, message: Message, context: Context) -> Message:
    """Return a party's reply to one message, taking the party from the context's state and leaving it there again."""
    party = make(spec)
    facts, journal = _wake(party, context.state)
    action = message.metadata.message_type.partition(".")[2]
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
        reply = party.app(message, context)
        journal.append(merge(step_record(step, names), [encode(envelope, "raw") for envelope in heard]))
    else:
        reply = party.app(message, context)
        if action == "hello":
            if TENSORS in context.state:
                del context.state[TENSORS]
            facts, journal = {}, []
        elif action != "meet":
            facts["state"], journal = _keep(party, context.state), []
    _sleep(party, context.state, facts, journal)
    return reply


class _Ear:
    """Stands in for an inbox and keeps what it opened."""

    def __init__(self, receive: Callable[[int, str, ArrayRecord], Envelope]) -> None:
        self.receive = receive


def _wake(party: Party, state: RecordDict) -> tuple[dict[str, Any], list[RecordDict]]:
    """Bring a new party to where the one before it was; returns the facts and the messages of the round at hand."""
    record = state.config_records.get(FACTS)
    if record is None:
        return {}, []
    facts: dict[str, Any] = json.loads(cast(str, record["facts"]))
    journal = [unpack(entry)[0] for entry in cast(list[bytes], record["journal"])]
    if "state" in facts:
        party.load(_tensors(state.array_records.get(TENSORS, ArrayRecord())), facts["state"])
    if party.channel is not None and "channel" in facts:
        party.channel = Channel.resumed(party.spec.party, party.spec.credentials, facts["channel"])
        party.outbox.channel = party.inbox.channel = party.channel
    for content in journal:
        step, names = read_step(content)
        party.replay(step, names, [decode(key, each) for key, each in mail(content).items()])
    party.entry.step = int(facts["at"])
    return facts, journal


def _sleep(party: Party, state: RecordDict, facts: dict[str, Any], journal: list[RecordDict]) -> None:
    facts["at"] = party.entry.step
    if party.channel is not None:
        facts["channel"] = party.channel.state()
    if party.outbox.recorder:
        party.outbox.recorder.flush()
    state[FACTS] = ConfigRecord({"facts": json.dumps(facts), "journal": [pack(content) for content in journal]})


def _keep(party: Party, state: RecordDict) -> dict[str, Any]:
    """Put a party's tensors into the state, and return its facts."""
    tensors, facts = party.state()
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
