"""10,000 malformed messages and more: every decoder and handler refuses each, with its reason, and goes on unharmed.

What stands for "unharmed" is the digest: a run whose parties are bombarded before every message of theirs ends in the
digest of one left alone.
"""

from __future__ import annotations

import os
from collections import Counter
from typing import ClassVar

import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from harness import config, digest, train
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from parties.controls import check_round
from parties.local import LocalCarrier, local_grid
from vfl.channel import Channel
from vfl.errors import VflError, WireError
from vfl.identity import drawn
from vfl.seeds import Seeds
from vfl.types import Kind
from vfl.wire import CALL_KEY, CONTROL_KEY, HOPS_KEY, STEP_KEY, decode, mail, read_step

PER_TEST = int(os.environ.get("VFL_FUZZ", "300"))
"""Examples of each decoder's test; `VFL_FUZZ=3500` makes them 10,000 in all, beside what parties are bombarded with."""
fuzz = settings(max_examples=PER_TEST, deadline=None, suppress_health_check=list(HealthCheck))

WORDS = st.sampled_from(["", "publisher", "advertiser", "referee", "stranger", "..", "0", "-1", "9" * 30, "\0", "a/b"])
KEYS = st.one_of(
    st.builds("{}/{}/{}/{}".format, st.sampled_from([*Kind, "junk"]), WORDS, WORDS, WORDS), st.text(max_size=20)
)
SIDES = st.one_of(st.integers(-2, 9), st.sampled_from([2**31, 2**40, 2**63, 10**30]))
ARRAYS = st.builds(
    Array,
    dtype=st.sampled_from(["<f4", "<f8", "<i8", "|u1", "<i4", ">f4", "object", "V8", "", "<f2", "\0"]),
    shape=st.lists(SIDES, max_size=3).map(tuple),
    stype=st.sampled_from(
        [
            "vfl.raw.v1",
            "vfl.f16.v1",
            "vfl.int8.v1",
            "vfl.aead.v2/0/1",
            "vfl.aead.v2/2/9999",
            "numpy.ndarray",
            "pickle",
            "",
        ]
    ),
    data=st.binary(max_size=80),
)
RECORDS = st.dictionaries(st.sampled_from(["rows", "body", "extra"]), ARRAYS, max_size=3).map(ArrayRecord)


def refused(call) -> str:
    """Return the reason of a refusal, empty where the message was well-formed by chance; anything else is a crash."""
    try:
        call()
    except WireError as error:
        return str(error) or pytest.fail("refused without a reason")
    return ""


@fuzz
@given(KEYS, RECORDS)
def test_the_envelope_decoder(key, record):
    refused(lambda: decode(key, record))


STEPS = st.dictionaries(
    st.sampled_from([STEP_KEY, HOPS_KEY, "other"]),
    st.one_of(
        st.text(max_size=30),
        st.integers(-(2**63), 2**63 - 1),
        st.binary(max_size=8),
        st.lists(st.one_of(st.integers(-9, 9).map(str), WORDS), min_size=7, max_size=9).map("|".join),
    ),
    max_size=3,
)


@fuzz
@given(STEPS)
def test_the_step_decoder(fields):
    refused(lambda: read_step(RecordDict({STEP_KEY: ConfigRecord(fields)})))


@fuzz
@given(st.data())
def test_greetings_and_sealed_records(data):
    found = drawn("run", ("publisher", "advertiser"))
    ours, theirs = Channel("publisher", found["publisher"]), Channel("advertiser", found["advertiser"])
    hello = ours.hello()
    forged = data.draw(st.one_of(st.binary(max_size=100), st.integers(0, 96).map(lambda size: hello[:size])))
    if forged != hello:
        assert refused(lambda: theirs.meet({"publisher": forged}))
    theirs.meet({"publisher": hello})
    assert refused(lambda: theirs.open(data.draw(KEYS), data.draw(RECORDS.filter(len))))


class Bombarded(LocalCarrier):
    """Sends a party malformed messages before every one of its own: none may be taken, none may leave a trace."""

    each = 8
    reasons: ClassVar[Counter[str]] = Counter()

    def _call(self, message: Message) -> Message:
        for number in range(self.each):
            seeds = Seeds(0).numpy(str(message.metadata.message_id), message.metadata.message_type, number, self.sent())
            spoil = malformed_call if CONTROL_KEY in message.content else malformed
            for content in spoil(message.content, seeds):
                bad = Message(content, message.metadata.dst_node_id, message.metadata.message_type)
                with pytest.raises(VflError) as caught:
                    super()._call(bad)
                type(self).reasons[str(caught.value).split(" ")[1]] += 1
        return super()._call(message)

    def sent(self) -> int:
        return sum(type(self).reasons.values())


def malformed(content: RecordDict, rng):
    """Yield variants of a message that are wrong in one thing each, drawn at random."""
    step = dict(content.config_records[STEP_KEY])
    whole = {key: record for key, record in content.items() if key != STEP_KEY}
    fields = str(step[STEP_KEY]).split("|")
    place = int(rng.integers(len(fields)))
    broken = [*fields[:place], str(rng.choice(["", "x", "-1", "1.5", "nan"])), *fields[place + 1 :]]
    if place != 1:
        yield RecordDict({**whole, STEP_KEY: ConfigRecord({**step, STEP_KEY: "|".join(broken)})})
    yield RecordDict(
        {**whole, STEP_KEY: ConfigRecord({**step, HOPS_KEY: str(rng.choice(["nope", "fuse|nope", "__init__"]))})}
    )
    yield RecordDict(whole)
    envelopes = mail(content)
    for key, record in envelopes.items():
        others = {name: each for name, each in whole.items() if name != key}
        yield RecordDict({**others, STEP_KEY: ConfigRecord(step), **broken_envelope(key, record, rng)})


JUNK = ("", "x", "stranger", b"", b"\0" * 97, -1, 2, 2**62, 0.5, [1, 2], ["a"], [b"a"], "9" * 1000)


def malformed_call(content: RecordDict, rng):
    """Yield variants of a control call that are wrong in one thing each, drawn at random."""
    call = dict(content.config_records[CONTROL_KEY])
    given = {key: value for key, value in call.items() if key != CALL_KEY}
    array = Array(dtype="<f4", shape=(1, 1), stype="vfl.raw.v1", data=b"\0\0\0\0")

    def made(fields) -> RecordDict:
        return RecordDict({**content, CONTROL_KEY: ConfigRecord(fields)})

    def junk(*but):
        return next(value for value in (JUNK[int(place)] for place in rng.permutation(len(JUNK))) if value not in but)

    yield RecordDict({key: record for key, record in content.items() if key != CONTROL_KEY})
    yield RecordDict({**content, CONTROL_KEY: ArrayRecord({"body": array})})
    yield RecordDict({**content, "embedding/publisher/advertiser/0": ArrayRecord({"rows": array, "body": array})})
    yield made(given)
    yield made({**call, CALL_KEY: junk("x", "stranger")})
    yield made({**call, str(rng.choice(["other", "stranger", "", "__class__"])): junk()})
    for key, value in given.items():
        yield made({name: each for name, each in call.items() if name != key})
        yield made({**call, key: junk("" if key == "absent" else 2)})
        if isinstance(value, bytes):
            yield made({**call, key: value[: int(rng.integers(len(value)))]})
            place = int(rng.integers(len(value)))
            yield made({**call, key: value[:place] + bytes([value[place] ^ 1]) + value[place + 1 :]})


def broken_envelope(key: str, record: ArrayRecord, rng) -> dict[str, ArrayRecord]:
    kind, src, dst, step = key.split("/")
    part = str(rng.choice(["rows", "body"]))
    was = record[part]
    how = int(rng.integers(10))
    changes = [
        {"data": was.data[:-1] or b"\0\0"},
        {"data": was.data + b"\0"},
        {"dtype": "<f2"},
        {"stype": "pickle"},
        {"shape": (*was.shape, 1)},
        {"shape": (2**40,)},
    ]
    if how < len(changes):
        fields = {"dtype": was.dtype, "shape": was.shape, "stype": was.stype, "data": was.data, **changes[how]}
        return {key: ArrayRecord({**record, part: Array(**fields)})}
    renamed = [f"junk/{src}/{dst}/{step}", f"{kind}/{src}/nobody/{step}", f"{kind}/{src}/{dst}/{int(step) + 7}", "x"]
    return {renamed[how - len(changes)]: record}


@pytest.mark.parametrize(
    "changed",
    [
        {"wire": {"channel": "off"}},
        {"wire": {"channel": "on"}, "align": "ecdh_psi"},
        {"wire": {"channel": "on"}, "method": "secure_sum", "train": {"epochs": 1, "batch_size": 32}},
        {"method": "fedcvt", "align": {"name": "plain", "overlap": 0.5}, "train": {"epochs": 1, "batch_size": 32}},
    ],
)
def test_parties_bombarded_with_malformed_messages_end_in_the_same_digest(monkeypatch, changed):
    monkeypatch.setattr(Bombarded, "reasons", Counter())
    monkeypatch.setattr("parties.local.LocalCarrier", Bombarded)
    asked = config(**changed)
    found = digest(train(asked, make_grid=lambda specs, asked, largest: local_grid(specs, asked.transport)))
    refused = dict(Bombarded.reasons)
    monkeypatch.undo()
    assert sum(refused.values()) > 1_000
    assert digest(train(asked)) == found


class Hasty(LocalCarrier):
    """Sends every control call out of its turn: what needs rows before there are any, what begins a second time."""

    seen: ClassVar[Counter[str]] = Counter()

    def _call(self, message: Message) -> Message:
        if not message.metadata.message_type.endswith("prepare"):
            return super()._call(message)
        self._refused(message, "before it has its rows", "checkpoint", "recall", "renew", "finish_run")
        answer = super()._call(message)
        self._refused(message, "a second time", "prepare", "restore")
        return answer

    def _refused(self, message: Message, told: str, *names: str) -> None:
        fields = {"checkpoint": {"step": 1}, "restore": {"step": 1}, "renew": {"phase": "train", "epoch": 1}}
        for name in names:
            call = ConfigRecord({**fields.get(name, {}), CALL_KEY: f"out-of-turn-{name}"})
            content = RecordDict({**message.content, CONTROL_KEY: call})
            with pytest.raises(WireError, match=told):
                super()._call(Message(content, message.metadata.dst_node_id, f"query.{name}"))
            type(self).seen[name] += 1


def test_control_calls_out_of_their_turn_are_refused_and_change_nothing(monkeypatch):
    calm = digest(train(config()))
    monkeypatch.setattr("parties.local.LocalCarrier", Hasty)
    found = digest(train(config(), make_grid=lambda specs, asked, largest: local_grid(specs, asked.transport)))
    assert found == calm
    assert len(Hasty.seen) == 6


@pytest.mark.parametrize("phase", ["train", "test", "align"])
def test_a_round_before_or_after_a_party_has_its_rows_is_refused(phase):
    check_round("publisher", phase, phase != "align")
    with pytest.raises(WireError, match=f"a round of '{phase}' {'after' if phase == 'align' else 'before'} it has"):
        check_round("publisher", phase, phase == "align")


WRONG = {
    "wider": lambda body: torch.cat([body, body], dim=1),
    "fewer rows": lambda body: body[:-1],
    "integers": lambda body: body.to(torch.int64),
}


@pytest.mark.parametrize("how", WRONG)
@pytest.mark.parametrize("kind", [Kind.EMBEDDING, Kind.GRADIENT])
def test_a_well_formed_body_of_the_wrong_shape_is_refused_by_name(monkeypatch, how, kind):
    """Sent by a party that keeps to the wire format and not to the protocol."""
    from dataclasses import replace

    from parties.outbox import Outbox

    send = Outbox.send

    def wrong(self, envelope, *known, **named):
        if envelope.kind == kind:
            rows = envelope.rows[:-1] if how == "fewer rows" else envelope.rows
            envelope = replace(envelope, body=WRONG[how](envelope.body), rows=rows)
        return send(self, envelope, *known, **named)

    monkeypatch.setattr(Outbox, "send", wrong)
    told = f"the {kind.value} of other rows" if how == "fewer rows" else f"cannot use the {kind.value}"
    with pytest.raises(WireError, match=told):
        train(config(split={"name": "columns", "publisher": ["mean_radius"], "advertiser": []}))
