"""Messages made from checked parts are field for field those that Flower's own constructors make."""

from __future__ import annotations

import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict

from vfl.compat_flwr import array, arrays, bundle, identify, metrics, reply, request, texts


def fields(message: Message) -> dict[str, object]:
    found = dict(message.metadata.__dict__)
    return {key: value for key, value in found.items() if key not in ("_created_at", "_ttl")}


def test_a_request_and_its_reply_are_flowers_own() -> None:
    identify()
    content, answer = RecordDict(), RecordDict()
    ours, theirs = request(content, 3, "train.play"), Message(content, 3, "train.play")
    for _ in range(2):  # the second comes from the cache
        assert fields(ours) == fields(theirs)
        assert ours.content is content
        assert ours.metadata.created_at == pytest.approx(theirs.metadata.created_at, abs=5)
        ours = request(content, 3, "train.play")
    back, expected = reply(answer, ours), Message(answer, reply_to=theirs)
    assert fields(back) == fields(expected)
    assert back.content is answer
    assert back.metadata.ttl == pytest.approx(expected.metadata.ttl, abs=5)
    assert ours.metadata is not request(content, 3, "train.play").metadata


def test_a_message_type_that_flower_refuses_is_refused() -> None:
    identify()
    with pytest.raises(ValueError, match="Invalid message type"):
        request(RecordDict(), 1, "no such.type")


def test_an_array_is_flowers_own() -> None:
    made, theirs = array("<f4", (1, 2), "vfl.raw.v1", b"12345678"), Array("<f4", (1, 2), "vfl.raw.v1", b"12345678")
    assert made == theirs
    assert made.object_id == theirs.object_id


def test_a_record_of_texts_is_flowers_own() -> None:
    made, theirs = texts({"a": "b"}), ConfigRecord({"a": "b"})
    assert made == theirs
    assert made.object_id == theirs.object_id
    with pytest.raises(TypeError):
        made["c"] = object()


def test_records_are_flowers_own_and_still_check_what_is_added() -> None:
    body = Array("<f4", (1, 2), "vfl.raw.v1", b"12345678")
    made = bundle({"report": metrics({"loss": 0.5})}, [("embedding/a/b/1", arrays({"body": body}))])
    theirs = RecordDict({"report": MetricRecord({"loss": 0.5}), "embedding/a/b/1": ArrayRecord({"body": body})})
    assert made == theirs
    assert made.object_id == theirs.object_id
    assert made["embedding/a/b/1"].is_dirty == theirs["embedding/a/b/1"].is_dirty
    for record, value in ((made, 1), (made["report"], object()), (made["embedding/a/b/1"], b"")):
        with pytest.raises(TypeError):
            record["c"] = value


def test_figures_that_are_no_plain_numbers_go_through_flowers_own_check() -> None:
    assert metrics({"rows": 3}) == MetricRecord({"rows": 3})
    with pytest.raises(TypeError):
        metrics({"loss": "low"})
