"""What a party lets in: size, number and rate of messages have limits, and a step that comes twice is acted on once."""

from __future__ import annotations

from contextlib import suppress

import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

from parties.entry import Entry, Limits
from vfl.errors import WireError
from vfl.wire import HOPS_KEY, STEP_KEY

FUSE, BACKWARD = ("fuse",), ("backward",)


def message(step: int = 1, bodies: int = 1, size: int = 8, fill: bytes = b"\1") -> RecordDict:
    rows = Array("<i4", (0,), "vfl.raw.v1", b"")
    body = Array("|u1", (1, size), "vfl.raw.v1", fill * size)
    sent = {f"embedding/p{place}/advertiser/{step}": {"rows": rows, "body": body} for place in range(bodies)}
    header = ConfigRecord({STEP_KEY: f"{step}|train|train|0|0|8|1|8", HOPS_KEY: "fuse"})
    return RecordDict({STEP_KEY: header, **{key: ArrayRecord(parts) for key, parts in sent.items()}})


def test_a_message_is_as_large_as_is_allowed_and_no_larger():
    entry = Entry("advertiser", Limits(message_bytes=16))
    entry.admit(message(bodies=2))
    with pytest.raises(WireError, match="advertiser got a message of 18 bytes, allowed 16"):
        entry.admit(message(bodies=2, size=9))


def test_a_message_holds_as_many_envelopes_as_are_allowed():
    entry = Entry("advertiser", Limits(envelopes=3))
    entry.admit(message(bodies=3))
    with pytest.raises(WireError, match="got 4 envelopes at once, allowed 3"):
        entry.admit(message(bodies=4))


def test_messages_beyond_the_rate_are_refused_until_time_has_passed():
    """Ten a second: a burst of ten, then one each tenth of a second, however long the party was left alone before."""
    now = 100.0
    entry = Entry("advertiser", Limits(per_second=10), clock=lambda: now)

    def admitted(tries: int) -> int:
        taken = 0
        for _ in range(tries):
            with suppress(WireError):
                entry.admit(message())
                taken += 1
        return taken

    assert admitted(25) == 10
    with pytest.raises(WireError, match="more than 10 messages a second"):
        entry.admit(message())
    now += 0.25
    assert admitted(25) == 2
    now += 3600
    assert admitted(25) == 10


def test_a_step_that_comes_twice_is_answered_as_it_was():
    entry, told = Entry("advertiser", Limits()), RecordDict()
    assert entry.answered(1, FUSE, message()) is None
    entry.keep(1, FUSE, message(), told)
    assert entry.answered(1, FUSE, message()) is told
    assert entry.answered(1, BACKWARD, message()) is None
    assert entry.answered(2, FUSE, message(2)) is None


@pytest.mark.parametrize("other", [message(fill=b"\2"), message(bodies=2), message(size=9), message(3)])
def test_another_message_under_the_name_of_one_acted_on_is_refused(other):
    entry = Entry("advertiser", Limits())
    entry.keep(1, FUSE, message(), RecordDict())
    with pytest.raises(WireError, match="got step 1 for fuse again with other content"):
        entry.answered(1, FUSE, other)


def test_an_earlier_step_is_refused_and_a_later_one_forgets_the_answers():
    entry = Entry("advertiser", Limits())
    entry.keep(1, FUSE, message(), RecordDict())
    entry.keep(2, FUSE, message(2), RecordDict())
    with pytest.raises(WireError, match="got step 1 after step 2; it was replayed or reordered"):
        entry.answered(1, FUSE, message())
    assert len(entry.state()) == 1
    entry.reset()
    assert entry.answered(1, FUSE, message()) is None


@pytest.mark.parametrize("again", [("fuse", "fuse"), ("fuse", "backward"), ("backward", "fuse", "fuse")])
def test_a_hop_is_acted_on_once_in_a_step_whatever_stands_beside_it(again):
    """Noise is drawn by step: of two bodies of one step, the difference would be free of it."""
    entry = Entry("advertiser", Limits())
    entry.keep(1, FUSE, message(), RecordDict())
    with pytest.raises(WireError, match=r"got step 1 for .*; it acts on each hop once in a step"):
        entry.answered(1, again, message())
    assert entry.answered(1, BACKWARD, message()) is None


def test_a_hop_twice_in_the_first_message_of_a_step_is_refused():
    with pytest.raises(WireError, match=r"step 1 for fuse\+fuse; it acts on each hop once"):
        Entry("advertiser", Limits()).answered(1, (*FUSE, *FUSE), message())


def test_the_messages_of_a_step_have_one_header():
    """Else rows of another round would get the noise of this one."""
    entry = Entry("advertiser", Limits())
    entry.keep(1, FUSE, message(), RecordDict())
    other = message()
    other[STEP_KEY] = ConfigRecord({STEP_KEY: "1|train|train|0|8|8|1|8", HOPS_KEY: "backward"})
    with pytest.raises(WireError, match="got step 1 with another header"):
        entry.answered(1, BACKWARD, other)
