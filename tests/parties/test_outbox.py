"""The way out and the way in: what a defense is told and keeps, in which order a reply passes what, what is refused."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from parties.outbox import Inbox, Mounted, Outbox, Sender
from vfl.channel import Channel
from vfl.defenses import SendContext, State
from vfl.errors import WireError
from vfl.seeds import Seeds
from vfl.store import TranscriptWriter, envelopes
from vfl.types import REFEREE, Envelope, Kind, Role
from vfl.wire import chain, decode, encode

LABELS = torch.tensor([1, 0, 1, 1, 0])
ADVERTISER, PUBLISHER, OTHER = "advertiser", "publisher_1", "publisher_2"


@dataclass(frozen=True)
class Told:
    """A defense that multiplies gradients, counts its calls in its state, and notes what it was told."""

    factor: float
    heard: list[tuple[SendContext, State, float]]

    kinds: ClassVar[frozenset[Kind]] = frozenset({Kind.GRADIENT})
    side: ClassVar[Role] = Role.ADVERTISER
    binary_only: ClassVar[bool] = False

    def init(self) -> State:
        return {"calls": torch.tensor(0)}

    def apply(self, body: Tensor, state: State, ctx: SendContext) -> tuple[Tensor, State]:
        self.heard.append((ctx, state, torch.rand((), generator=ctx.generator).item()))
        return body * self.factor, {"calls": state["calls"] + 1}


def told(factor: float = 2.0) -> Told:
    return Told(factor, [])


def outbox(*defenses: Told, **changed: Any) -> Outbox:
    labels = changed.pop("labels", lambda rows: LABELS[rows])
    sender = Sender(ADVERTISER, 2, Seeds(0), labels)
    options = {"codec": "raw", "recorder": None, "channel": None, **changed}
    return Outbox(sender, mounted=[Mounted(defense) for defense in defenses], **options)


def gradient(step: int = 4, dst: str = PUBLISHER, **changed: Any) -> Envelope:
    return replace(
        Envelope(step, Kind.GRADIENT, ADVERTISER, dst, torch.tensor([4, 2]), torch.full((2, 3), 0.1)), **changed
    )


def test_defenses_come_before_the_codec_and_the_codec_before_the_chain(tmp_path):
    """f16 rounds 0.1, and a factor of 10,001 makes it matter whether it rounds before or after."""
    box = outbox(told(10_001.0), codec="f16", recorder=TranscriptWriter(tmp_path, 1))
    key, record = box.send(gradient())
    defended = gradient(body=torch.full((2, 3), 0.1) * 10_001.0)
    early = decode(*encode(gradient(), "f16")).body * 10_001.0
    expected_key, expected = encode(defended, "f16")
    assert (key, record) == (expected_key, expected)
    assert not torch.equal(decode(key, record).body, early)
    assert box.chains == {PUBLISHER: chain(b"", key, expected)}
    box.recorder.flush()
    ((way, kept),) = envelopes(tmp_path)
    assert way == "sent"
    assert torch.equal(kept.body, decode(key, record).body)


def test_the_chain_and_the_record_come_before_the_channel(tmp_path):
    ours, theirs = Channel(ADVERTISER), Channel(PUBLISHER)
    ours.meet({PUBLISHER: theirs.hello()})
    theirs.meet({ADVERTISER: ours.hello()})
    plain, box = outbox(told()), outbox(told(), channel=ours, recorder=TranscriptWriter(tmp_path, 1))
    for step in range(3):
        key, record = box.send(gradient(step))
        assert plain.send(gradient(step))[1] == theirs.open(key, record) != record
    assert box.chains == plain.chains
    assert box.sent_bytes == plain.sent_bytes
    box.recorder.flush()
    assert [torch.equal(kept.body, gradient().body * 2) for _, kept in envelopes(tmp_path)] == [True] * 3


def test_chains_are_one_an_edge_and_grow_without_a_recorder():
    box, links = outbox(), dict[str, bytes]()
    for step, dst in ((0, PUBLISHER), (1, OTHER), (2, PUBLISHER), (2, REFEREE)):
        key, record = box.send(gradient(step, dst))
        links[dst] = chain(links.get(dst, b""), key, record)
    assert box.chains == links


def test_defenses_are_stacked_in_order():
    first, second = told(2.0), told(5.0)
    key, record = outbox(first, second).send(gradient())
    assert torch.equal(decode(key, record).body, gradient().body * 2 * 5)
    assert first.heard[0][2] != second.heard[0][2]


def test_only_declared_kinds_are_touched():
    defense = told()
    box = outbox(defense)
    for kind in Kind:
        key, record = box.send(gradient(kind=kind))
        factor = 2 if kind == Kind.GRADIENT else 1
        assert torch.equal(decode(key, record).body, gradient().body * factor)
    assert len(defense.heard) == 1


def test_state_is_one_a_destination_and_carried_from_step_to_step():
    defense = told()
    box = outbox(defense)
    for step, dst in ((0, PUBLISHER), (0, OTHER), (1, PUBLISHER), (2, PUBLISHER), (1, OTHER)):
        box.send(gradient(step, dst))
    assert [int(state["calls"]) for _, state, _ in defense.heard] == [0, 0, 1, 2, 1]
    assert {dst: int(state["calls"]) for dst, state in box.mounted[0].states.items()} == {PUBLISHER: 3, OTHER: 2}


def test_random_streams_are_one_for_each_step_destination_and_place():
    """And the same again in another run: the stream is a name under the party's own scope."""
    drawn = []
    for _ in range(2):
        first, second = told(), told()
        box = outbox(first, second)
        for step, dst in ((0, PUBLISHER), (0, OTHER), (1, PUBLISHER)):
            box.send(gradient(step, dst))
        drawn.append([value for defense in (first, second) for *_, value in defense.heard])
    assert drawn[0] == drawn[1]
    assert len(set(drawn[0])) == 6
    expected = torch.rand((), generator=Seeds(0).torch("defense", 1, OTHER, 0)).item()
    assert drawn[0][4] == expected


def test_a_step_played_again_without_a_party_draws_other_noise():
    """The body differs by then, and the same noise twice would leave the difference bare."""
    defense = told()
    for without in ((), (), (OTHER,)):
        outbox(defense, without=without).send(gradient())
    first, again, alone = (draw for _, _, draw in defense.heard)
    assert first == again != alone


def test_a_defense_is_told_the_senders_own_labels_of_the_rows():
    defense = told()
    outbox(defense).send(gradient(7))
    ctx = defense.heard[0][0]
    assert torch.equal(ctx.labels, LABELS[[4, 2]])
    assert (ctx.step, ctx.classes) == (7, 2)


def test_a_party_without_labels_tells_none():
    defense = told()
    outbox(defense, labels=None).send(gradient())
    assert defense.heard[0][0].labels is None


def test_bytes_are_counted_by_kind_as_they_are_on_the_wire():
    box = outbox(codec="f16")
    box.send(gradient())
    box.send(gradient(5, OTHER))
    box.send(gradient(kind=Kind.EMBEDDING, body=torch.zeros(2, 7)))
    rows = 2 * 4
    assert box.sent_bytes == {Kind.GRADIENT: 2 * (rows + 2 * 3 * 2), Kind.EMBEDDING: rows + 2 * 7 * 2}


def test_what_the_referee_gets_costs_no_company_anything(tmp_path):
    box = outbox(recorder=TranscriptWriter(tmp_path, 1))
    box.send(gradient(dst=REFEREE, kind=Kind.SCORE))
    assert box.sent_bytes == {}
    assert set(box.chains) == {REFEREE}
    box.recorder.flush()
    assert [kept.dst for _, kept in envelopes(tmp_path)] == [REFEREE]


def test_what_was_sent_does_not_change_when_the_sender_changes_its_tensor():
    body = torch.ones(2, 3, requires_grad=True)
    key, record = outbox().send(gradient(body=body))
    with torch.no_grad():
        body.fill_(9)
    got = decode(key, record).body
    assert torch.equal(got, torch.ones(2, 3))
    assert not got.requires_grad


def test_the_inbox_gives_what_the_outbox_sent_and_records_it(tmp_path):
    recorder = TranscriptWriter(tmp_path, 1)
    key, record = outbox(told()).send(gradient())
    got = Inbox(PUBLISHER, recorder, None).receive(4, key, record)
    assert torch.equal(got.body, gradient().body * 2)
    assert (got.src, got.dst, got.step) == (ADVERTISER, PUBLISHER, 4)
    recorder.flush()
    ((way, kept),) = envelopes(tmp_path)
    assert way == "received"
    assert torch.equal(kept.body, got.body)


@pytest.mark.parametrize(("party", "step"), [(OTHER, 4), (ADVERTISER, 4), (PUBLISHER, 5), (PUBLISHER, 3)])
def test_misdirected_and_replayed_envelopes_are_refused_and_not_recorded(tmp_path, party, step):
    recorder = TranscriptWriter(tmp_path, 1)
    key, record = outbox().send(gradient(step=4))
    with pytest.raises(WireError, match="belongs elsewhere or was replayed"):
        Inbox(party, recorder, None).receive(step, key, record)
    recorder.flush()
    assert list(envelopes(tmp_path)) == []


def test_what_is_not_finite_is_refused_on_arrival():
    key, record = outbox().send(gradient(body=torch.tensor([[1.0], [float("nan")]])))
    with pytest.raises(WireError, match="not finite"):
        Inbox(PUBLISHER, None, None).receive(4, key, record)


def test_a_sealed_inbox_takes_nothing_in_the_clear():
    ours = Channel(PUBLISHER)
    ours.meet({ADVERTISER: Channel(ADVERTISER).hello()})
    with pytest.raises(WireError, match="is not sealed"):
        Inbox(PUBLISHER, None, ours).receive(4, *outbox().send(gradient()))
