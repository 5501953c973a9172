"""A party's record of the wire: what was sent comes back, in order, or a `DataError` says what is wrong."""

from __future__ import annotations

import os
import zlib
from pathlib import Path
from threading import Event, Thread, Timer

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vfl import store
from vfl.errors import DataError
from vfl.store import TranscriptWriter, envelopes, load_view, recorded_bytes
from vfl.transcript import Hints
from vfl.types import Envelope, Kind
from vfl.whole import write_whole
from vfl.wire import body_bytes, decode, encode

US, OTHER, THEM = "publisher_1", "publisher_2", "advertiser"


def body(step: int, rows: int = 4, dim: int = 3) -> torch.Tensor:
    return torch.randn(rows, dim, generator=torch.Generator().manual_seed(step))


def traffic(step: int, party: str = US) -> list[tuple[str, Envelope]]:
    """One training step of a publisher: an embedding goes out, a gradient comes back."""
    rows = torch.arange(4) + 10 * step
    return [
        ("sent", Envelope(step, Kind.EMBEDDING, party, THEM, rows, body(step))),
        ("received", Envelope(step, Kind.GRADIENT, THEM, party, rows, body(step + 1000))),
    ]


def write(folder: Path, steps, every: int = 1, codec="raw", party: str = US) -> TranscriptWriter:
    writer = TranscriptWriter(folder, every)
    for step in steps:
        for way, envelope in traffic(step, party):
            writer.add(step, way, *encode(envelope, codec))
    writer.flush()
    return writer


def chunks(folder: Path) -> list[Path]:
    return sorted(folder.glob("chunk-*"))


def steps_in(folder: Path) -> list[int]:
    return sorted({envelope.step for _, envelope in envelopes(folder)})


def same(one: Envelope, other: Envelope) -> bool:
    plain = [(e.step, e.kind, e.src, e.dst) for e in (one, other)]
    return plain[0] == plain[1] and torch.equal(one.rows, other.rows) and torch.equal(one.body, other.body)


@pytest.mark.parametrize("codec", ["raw", "f16", "int8"])
def test_the_view_is_what_arrived(tmp_path, codec):
    write(tmp_path, range(12), codec=codec)
    hints = Hints(torch.tensor([3]), torch.tensor([1]))
    view = load_view([tmp_path], (US,), 2, hints)
    expected = [(way, decode(*encode(e, codec))) for step in range(12) for way, e in traffic(step)]
    for way, found in (("sent", view.sent), ("received", view.received)):
        wanted = [envelope for at, envelope in expected if at == way]
        assert len(found) == len(wanted)
        assert all(same(*pair) for pair in zip(found, wanted, strict=True))
    assert (view.parties, view.classes, view.hints) == ((US,), 2, hints)


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.sampled_from(["raw", "f16", "int8"]), min_size=1, max_size=5),
    st.sampled_from([torch.float32, torch.float64, torch.int64, torch.uint8]),
    st.tuples(st.integers(0, 3), st.integers(1, 3)),
    st.integers(0, 10**8),
)
def test_all_dtypes_codecs_and_shapes_survive_the_disk(tmp_path_factory, codecs, dtype, shape, first):
    folder = tmp_path_factory.mktemp("transcript")
    writer, wanted = TranscriptWriter(folder, 1), []
    for step, codec in enumerate(codecs, start=first):
        sent = (torch.arange(shape[0] * shape[1]).reshape(shape) * 7 + step % 100).to(dtype)
        key, record = encode(Envelope(step, Kind.PSI, US, THEM, torch.arange(shape[0]), sent), codec)
        writer.add(step, "sent", key, record)
        wanted.append(decode(key, record))
    writer.flush()
    found = [envelope for _, envelope in envelopes(folder)]
    assert all(same(*pair) for pair in zip(found, wanted, strict=True))
    assert all(envelope.body.dtype == dtype for envelope in found)


@pytest.mark.parametrize(("every", "kept"), [(1, list(range(10))), (3, [0, 3, 6, 9]), (100, [0])])
def test_every_keeps_every_so_many_steps(tmp_path, every, kept):
    write(tmp_path, range(10), every=every)
    assert steps_in(tmp_path) == kept


def test_nothing_is_written_before_there_is_anything(tmp_path):
    writer = TranscriptWriter(tmp_path / "deep" / "down", 1)
    writer.flush()
    assert chunks(tmp_path / "deep" / "down") == []
    assert load_view([tmp_path / "deep" / "down"], (US,), 2).sent == ()


def test_a_full_chunk_is_written_while_the_next_fills(tmp_path, monkeypatch):
    """The second chunk fills while the disk is busy with the first, and then waits, so that memory holds two."""
    one_step, busy, began = sum(body_bytes(encode(e, "raw")[1]) for _, e in traffic(0)), Event(), []
    whole = store.write_whole
    monkeypatch.setattr(store, "CHUNK_BYTES", one_step)
    monkeypatch.setattr(
        store, "write_whole", lambda *args, **how: (began.append(args[0]), busy.wait(30), whole(*args, **how))
    )
    writer = TranscriptWriter(tmp_path, 1)

    def play(step: int) -> None:
        for way, envelope in traffic(step):
            writer.add(step, way, *encode(envelope, "raw"))

    play(0)
    second = Thread(target=play, args=(1,))
    second.start()
    second.join(0.2)
    assert second.is_alive()
    assert chunks(tmp_path) == []
    busy.set()
    second.join(30)
    writer.flush()
    assert steps_in(tmp_path) == [0, 1]
    assert len(began) == 2


def test_a_chunk_that_could_not_be_written_is_told_by_the_next_or_by_flush(tmp_path, monkeypatch):
    def full(*args: object, **how: object) -> None:
        raise OSError("disk full")

    writer = TranscriptWriter(tmp_path, 1)
    writer.add(0, "sent", *encode(traffic(0)[0][1], "raw"))
    monkeypatch.setattr(store, "write_whole", full)
    with pytest.raises(OSError, match="disk full"):
        writer.flush()


def test_who_opens_a_folder_anew_waits_for_what_is_under_way(tmp_path, monkeypatch):
    """A party that is made anew cuts its transcript back; a chunk of its former self must not come after that."""
    busy, whole = Event(), store.write_whole
    monkeypatch.setattr(store, "CHUNK_BYTES", 1)
    monkeypatch.setattr(store, "write_whole", lambda *args, **how: (busy.wait(30), whole(*args, **how)))
    TranscriptWriter(tmp_path, 1).add(7, "sent", *encode(traffic(7)[0][1], "raw"))
    Timer(0.2, busy.set).start()
    TranscriptWriter(tmp_path, 1).cut_back(5)
    assert chunks(tmp_path) == []


def test_memory_holds_at_most_two_chunks(tmp_path, monkeypatch):
    one_step = sum(body_bytes(encode(envelope, "raw")[1]) for _, envelope in traffic(0))
    monkeypatch.setattr(store, "CHUNK_BYTES", 3 * one_step)
    writer = TranscriptWriter(tmp_path, 1)
    for step in range(10):
        for way, envelope in traffic(step):
            writer.add(step, way, *encode(envelope, "raw"))
    writer.flush()
    ends = [(0, 2), (3, 5), (6, 8), (9, 9)]
    assert [path.name[:25] for path in chunks(tmp_path)] == [f"chunk-{first:09d}-{last:09d}" for first, last in ends]
    assert steps_in(tmp_path) == list(range(10))
    assert [e.step for e in load_view([tmp_path], (US,), 2).received] == list(range(10))


def test_a_chunk_says_its_steps_and_its_checksum(tmp_path):
    write(tmp_path, range(4, 8))
    (path,) = chunks(tmp_path)
    assert path.name == f"chunk-000000004-000000007-{zlib.crc32(path.read_bytes()):08x}.safetensors"


def test_a_resumed_run_forgets_what_came_after_its_checkpoint(tmp_path):
    for start in (0, 5, 10):
        writer = write(tmp_path, range(start, start + 5))
    writer.add(15, "sent", *encode(traffic(15)[0][1], "raw"))
    writer.cut_back(10)
    writer.flush()
    assert steps_in(tmp_path) == list(range(10))
    write(tmp_path, range(10, 12))
    assert steps_in(tmp_path) == list(range(12))


def test_a_chunk_that_reaches_past_the_checkpoint_goes_whole(tmp_path):
    writer = write(tmp_path, range(5))
    writer.cut_back(5)
    assert steps_in(tmp_path) == list(range(5))
    writer.cut_back(4)
    assert steps_in(tmp_path) == []


@pytest.mark.parametrize(
    "damage",
    [
        lambda raw: raw[:-1],
        lambda raw: raw + b"\0",
        lambda raw: b"",
        lambda raw: raw[:200] + bytes([raw[200] ^ 1]) + raw[201:],
        lambda raw: raw[:-3] + bytes([raw[-3] ^ 128]) + raw[-2:],
    ],
)
def test_a_damaged_chunk_is_refused_by_name(tmp_path, damage):
    write(tmp_path, range(3))
    (path,) = chunks(tmp_path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match="checksum is wrong") as caught:
        load_view([tmp_path], (US,), 2)
    assert caught.value.where == str(path)


def test_a_run_killed_while_it_writes_leaves_whole_chunks_only(tmp_path, monkeypatch):
    """Killed with the first 100 bytes of a chunk on disk: what is there can be read, and written again."""

    def killed(part: Path, target: Path) -> None:
        os.truncate(part, 100)
        raise SystemExit

    write(tmp_path, range(3))
    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", killed)
        with pytest.raises(SystemExit):
            write(tmp_path, range(3, 6))
    assert [path.stat().st_size for path in tmp_path.iterdir() if path.name.endswith(".part")] == [100]
    assert steps_in(tmp_path) == [0, 1, 2]
    write(tmp_path, range(3, 6))
    assert steps_in(tmp_path) == [0, 1, 2, 3, 4, 5]


def test_what_was_flushed_is_on_disk_whatever_becomes_of_the_machine(tmp_path, monkeypatch):
    """Every chunk since the last flush is synced by the next one, and none while training goes on."""
    synced, fsync = list[str](), os.fsync
    monkeypatch.setattr(store, "CHUNK_BYTES", 1)
    monkeypatch.setattr(os, "fsync", lambda file: (synced.append(os.readlink(f"/proc/self/fd/{file}")), fsync(file))[1])
    writer = TranscriptWriter(tmp_path, 1)
    for upto in (3, 5):
        for step in range(upto - 2, upto):
            for way, envelope in traffic(step):
                writer.add(step, way, *encode(envelope, "raw"))
        writer.flush()
        assert sorted(synced) == [str(path) for path in chunks(tmp_path)]


def test_an_interrupted_write_leaves_the_older_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_whole(path, b"old")

    def fail(descriptor: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        write_whole(path, b"new and longer")
    assert path.read_bytes() == b"old"
    monkeypatch.undo()
    write_whole(path, b"new")
    assert path.read_bytes() == b"new"
    assert [found.name for found in tmp_path.iterdir()] == ["file"]


def test_colluding_parties_see_their_own_traffic_with_others_only(tmp_path):
    """Publishers 1 and 2 pool their folders; what passed between the two is no news to either."""
    for party in (US, OTHER):
        writer = write(tmp_path / party, range(3), party=party)
        for way, ends in (("sent", (party, THEM)), ("received", (THEM, party))):
            writer.add(3, way, *encode(Envelope(3, Kind.CONTROL, *ends, torch.arange(4), body(3)), "raw"))
    between = encode(Envelope(4, Kind.EMBEDDING, US, OTHER, torch.arange(4), body(4)), "raw")
    for party, way in ((US, "sent"), (OTHER, "received")):
        writer = TranscriptWriter(tmp_path / party, 1)
        writer.add(4, way, *between)
        writer.flush()
    write(tmp_path / US, range(5, 6))
    write(tmp_path / OTHER, range(5, 6), party=OTHER)

    both = load_view([tmp_path / US, tmp_path / OTHER], (US, OTHER), 2)
    assert {(e.src, e.dst) for e in both.sent} == {(US, THEM), (OTHER, THEM)}
    assert {(e.src, e.dst) for e in both.received} == {(THEM, US), (THEM, OTHER)}
    assert [e.step for e in both.sent] == sorted(e.step for e in both.sent)
    alone = load_view([tmp_path / US], (US,), 2)
    assert {(e.src, e.dst) for e in alone.sent} == {(US, THEM), (US, OTHER)}
    assert {e.dst for e in alone.received} == {US}
    assert 4 not in {e.step for e in both.sent}
    assert 4 in {e.step for e in alone.sent}


@pytest.mark.parametrize(("steps", "every", "expected"), [(10, 1, 2000), (10, 3, 800), (9, 3, 600), (10, 0, 0)])
def test_recorded_bytes(steps, every, expected):
    assert recorded_bytes(steps, every, 100) == expected


def test_recorded_bytes_is_what_is_written_but_for_headers(tmp_path):
    """Two ends keep each envelope; the headers of safetensors come on top."""
    write(tmp_path, range(50))
    per_step = sum(body_bytes(encode(envelope, "raw")[1]) for _, envelope in traffic(0))
    payload = sum(np.frombuffer(path.read_bytes(), np.uint8).size - header_bytes(path) for path in chunks(tmp_path))
    assert 2 * payload == recorded_bytes(50, 1, per_step)


def header_bytes(path: Path) -> int:
    return 8 + int.from_bytes(path.read_bytes()[:8], "little")
