"""Sealed channels: the coordinator carries what it cannot read, and nothing it changes is let through."""

from __future__ import annotations

import hashlib
import hmac

import numpy as np
import pytest
import torch
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from flwr.app import Array, ArrayRecord

from vfl.channel import AEAD_STYPE, AES, CHACHA, Channel
from vfl.errors import WireError
from vfl.store import TranscriptWriter, envelopes
from vfl.types import Envelope, Kind
from vfl.wire import decode, encode

A, B, C = "publisher_1", "advertiser", "publisher_2"


def meet(*parties: str) -> dict[str, Channel]:
    ends = {party: Channel(party) for party in parties}
    publics = {party: end.hello() for party, end in ends.items()}
    for end in ends.values():
        end.meet(publics)
    return ends


def sent(step: int = 1, src: str = A, dst: str = B, codec="raw") -> tuple[str, ArrayRecord]:
    body = torch.randn(16, 8, generator=torch.Generator().manual_seed(step))
    return encode(Envelope(step, Kind.EMBEDDING, src, dst, torch.arange(16), body), codec)


def changed(record: ArrayRecord, part: str, **fields) -> ArrayRecord:
    was = record[part]
    whole = {"dtype": was.dtype, "shape": was.shape, "stype": was.stype, "data": was.data, **fields}
    return ArrayRecord({**record, part: Array(**whole)})


@pytest.mark.parametrize("codec", ["raw", "f16", "int8"])
def test_what_was_sealed_opens_to_what_was_sent(codec):
    ends = meet(A, B, C)
    for step in range(3):
        for src, dst in ((A, B), (B, A), (A, C), (C, B)):
            key, record = sent(step, src, dst, codec)
            opened = ends[dst].open(key, ends[src].seal(dst, key, record))
            assert opened == record
            assert torch.equal(decode(key, opened).body, decode(key, record).body)


def test_zero_rows_can_be_sealed():
    ends = meet(A, B)
    key, record = encode(Envelope(1, Kind.PSI, A, B, torch.empty(0, dtype=torch.int64), torch.empty(0, 2)), "raw")
    assert ends[B].open(key, ends[A].seal(B, key, record)) == record


def test_the_coordinator_sees_no_run_of_plain_bytes():
    ends = meet(A, B)
    key, record = sent()
    sealed = ends[A].seal(B, key, record)
    for part in ("rows", "body"):
        plain, hidden = record[part].data, sealed[part].data
        runs = {plain[at : at + 4] for at in range(len(plain) - 3)}
        assert not any(hidden[at : at + 4] in runs for at in range(len(hidden) - 3))
        assert sealed[part].stype.startswith(f"{AEAD_STYPE}/0/")
        counts = np.bincount(np.frombuffer(hidden, np.uint8), minlength=256)
        assert counts.max() < 16
    with pytest.raises(WireError):
        decode(key, sealed)


def test_equal_messages_look_different():
    ends = meet(A, B)
    key, record = sent()
    assert len({ends[A].seal(B, key, record)["body"].data for _ in range(5)}) == 5
    nonces = {part.stype for _ in range(5) for part in ends[A].seal(B, key, record).values()}
    assert len(nonces) == 10


@pytest.mark.parametrize("part", ["rows", "body"])
def test_tampering_with_any_field_is_refused(part):
    ends = meet(A, B)
    key, record = sent()
    sealed = ends[A].seal(B, key, record)
    was = sealed[part]
    forged = [
        changed(sealed, part, dtype="<f8"),
        changed(sealed, part, shape=(*was.shape[:-1], was.shape[-1] - 1)),
        changed(sealed, part, shape=was.shape[::-1] if part == "body" else (4, 4)),
        changed(sealed, part, stype="vfl.raw.v1"),
        changed(sealed, part, data=was.data[:-1]),
        changed(sealed, part, data=was.data + b"\0"),
        changed(sealed, part, data=was.data[:16]),
        changed(sealed, part, data=was.data[:15]),
        changed(sealed, part, stype=AEAD_STYPE),
        changed(sealed, part, stype=was.stype.replace("/0/", "/1/")),
        changed(sealed, part, stype=was.stype.replace("/0/", "/3/")),
        changed(sealed, part, stype=was.stype.replace("/0/", "/0/0")),
        changed(sealed, part, stype=was.stype + "0"),
        changed(sealed, part, stype=was.stype + "0" * 30),
        changed(sealed, part, stype=f"{AEAD_STYPE}/0/-1"),
        changed(sealed, part, data=b""),
        changed(sealed, part, data=sealed["rows" if part == "body" else "body"].data),
    ]
    for record in forged:
        with pytest.raises(WireError):
            ends[B].open(key, record)


def test_a_flip_of_any_byte_is_refused():
    """Ciphertext and tag alike."""
    ends = meet(A, B)
    key, record = encode(Envelope(1, Kind.EMBEDDING, A, B, torch.arange(2), torch.ones(2, 1)), "raw")
    sealed = ends[A].seal(B, key, record)
    for part in ("rows", "body"):
        for at in range(len(sealed[part].data)):
            data = bytearray(sealed[part].data)
            data[at] ^= 1
            with pytest.raises(WireError):
                ends[B].open(key, changed(sealed, part, data=bytes(data)))
    assert ends[B].open(key, sealed) == record


@pytest.mark.parametrize(
    "key",
    [
        f"gradient/{A}/{B}/1",
        f"embedding/{C}/{B}/1",
        f"embedding/{B}/{A}/1",
        f"embedding/{A}/{C}/1",
        f"embedding/{A}/{B}/2",
        f"embedding/stranger/{B}/1",
        "embedding",
    ],
)
def test_a_changed_header_is_refused(key):
    ends = meet(A, B, C)
    true_key, record = sent()
    sealed = ends[A].seal(B, true_key, record)
    with pytest.raises(WireError):
        ends[B].open(key, sealed)


def test_what_is_opened_is_the_openers_own(tmp_path):
    """It may write to it: what was sealed is as it was, and so is what was recorded of it."""
    ends = meet(A, B)
    key, record = sent()
    sealed = ends[A].seal(B, key, record)
    opened, before = ends[B].open(key, sealed), sealed["body"].data
    body, kept = decode(key, opened).body, TranscriptWriter(tmp_path, 1)
    kept.add(1, "received", key, opened)
    body.zero_()
    kept.flush()
    assert sealed["body"].data == before
    ((_, envelope),) = envelopes(tmp_path)
    assert torch.equal(envelope.body, decode(key, record).body)


def test_a_changed_array_name_is_refused():
    ends = meet(A, B)
    key, record = encode(Envelope(1, Kind.PSI, A, B, torch.arange(2), torch.arange(2)[:, None]), "raw")
    sealed = ends[A].seal(B, key, record)
    with pytest.raises(WireError):
        ends[B].open(key, ArrayRecord({"rows": sealed["body"], "body": sealed["rows"]}))


def test_replay_and_reorder_are_refused_and_the_channel_goes_on():
    ends = meet(A, B)
    keys, sealed = [], []
    for step in range(4):
        key, record = sent(step)
        keys.append(key)
        sealed.append(ends[A].seal(B, key, record))
    ends[B].open(keys[0], sealed[0])
    for replayed in (sealed[0], ArrayRecord({"body": sealed[0]["body"]})):
        with pytest.raises(WireError, match="replayed or reordered"):
            ends[B].open(keys[0], replayed)
    ends[B].open(keys[2], sealed[2])
    with pytest.raises(WireError, match="replayed or reordered"):
        ends[B].open(keys[1], sealed[1])
    assert ends[B].open(keys[3], sealed[3]) == sent(3)[1]


def test_what_is_for_another_cannot_be_opened():
    ends = meet(A, B, C)
    key, record = sent()
    with pytest.raises(WireError, match="authentication tag"):
        ends[C].open(key, ends[A].seal(B, key, record))


def test_one_direction_does_not_open_the_other():
    """What A sealed, given back to A under a header that says it comes from B."""
    ends = meet(A, B)
    key, record = sent()
    with pytest.raises(WireError, match="authentication tag"):
        ends[A].open(f"embedding/{B}/{A}/1", ends[A].seal(B, key, record))


def test_another_run_cannot_be_replayed():
    earlier, later = meet(A, B), meet(A, B)
    key, record = sent()
    with pytest.raises(WireError, match="authentication tag"):
        later[B].open(key, earlier[A].seal(B, key, record))


def test_plain_envelopes_are_refused():
    ends = meet(A, B)
    with pytest.raises(WireError, match="is not sealed"):
        ends[B].open(*sent())


def test_meeting_twice_is_refused():
    """A second derivation would start the counters again under the same keys: two messages under one nonce."""
    ends = meet(A, B)
    with pytest.raises(WireError, match="has met"):
        ends[A].meet({B: ends[B].hello()})


def test_greetings_refused_for_one_of_them_leave_no_trace():
    ends = {party: Channel(party) for party in (A, B, C)}
    hellos = {party: end.hello() for party, end in ends.items()}
    with pytest.raises(WireError, match="no valid public key"):
        ends[A].meet({**hellos, C: b"cut"})
    assert not ends[A].met
    for end in ends.values():
        end.meet(hellos)
    key, record = sent()
    assert ends[B].open(key, ends[A].seal(B, key, record)) == record


@pytest.mark.parametrize("public", [b"", b"short", b"\0" * 32, b"\0" * 32 + AES, b"\1" + b"\0" * 31 + AES, b"\7" * 33])
def test_what_is_no_public_key_is_refused(public):
    with pytest.raises(WireError, match="no valid public key"):
        Channel(A).meet({B: public})


def hkdf_sha256(secret: bytes, salt: bytes, info: bytes) -> bytes:
    """RFC 5869 for one block, from HMAC alone."""
    extracted = hmac.digest(salt, secret, hashlib.sha256)
    return hmac.digest(extracted, info + b"\1", hashlib.sha256)


def ends(src: str, dst: str) -> bytes:
    return f"vfl channel v3||{src}|{dst}".encode()


@pytest.mark.parametrize("codec", ["raw", "f16", "int8"])
def test_an_implementation_of_ones_own_reads_and_writes_the_same(codec):
    """X25519 of the library, HKDF from HMAC, AES-GCM from its cipher mode instead of the AEAD class."""
    private, channel = X25519PrivateKey.generate(), Channel(A, suite=AES)
    public = private.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    channel.meet({B: public + AES})
    secret = private.exchange(X25519PublicKey.from_public_bytes(channel.hello()[:32]))
    salt = hashlib.sha256(min(public + AES, channel.hello()) + max(public + AES, channel.hello())).digest()
    key, record = sent(codec=codec)
    sealed = channel.seal(B, key, record)
    code = {"raw": 0, "f16": 1, "int8": 2}[codec]
    for count, (part, plain) in enumerate(record.items(), start=1):
        nonce = bytes([code if part == "body" else 0]) + count.to_bytes(11, "big")
        theirs = Cipher(
            algorithms.AES(hkdf_sha256(secret, salt, f"vfl channel v3||{A}|{B}".encode())), modes.GCM(nonce)
        )
        encryptor = theirs.encryptor()
        encryptor.authenticate_additional_data(f"|{key}/{part}|{plain.dtype}|{plain.shape}".encode())
        expected = encryptor.update(plain.data) + encryptor.finalize() + encryptor.tag
        assert (sealed[part].stype, sealed[part].data) == (f"vfl.aead.v2/{nonce[0]}/{count}", expected)

    back, answer = encode(Envelope(1, Kind.GRADIENT, B, A, torch.arange(2), torch.ones(2, 2)), codec)
    arrays = {}
    for count, (part, plain) in enumerate(answer.items(), start=1):
        nonce = bytes([code if part == "body" else 0]) + count.to_bytes(11, "big")
        ours = Cipher(algorithms.AES(hkdf_sha256(secret, salt, ends(B, A))), modes.GCM(nonce))
        encryptor = ours.encryptor()
        encryptor.authenticate_additional_data(f"|{back}/{part}|{plain.dtype}|{plain.shape}".encode())
        data = encryptor.update(plain.data) + encryptor.finalize() + encryptor.tag
        stype = f"vfl.aead.v2/{nonce[0]}/{count}"
        arrays[part] = Array(dtype=plain.dtype, shape=plain.shape, stype=stype, data=data)
    assert channel.open(back, ArrayRecord(arrays)) == answer


@pytest.mark.parametrize(("ours", "theirs"), [(AES, CHACHA), (CHACHA, AES), (CHACHA, CHACHA)])
def test_chacha_is_taken_where_either_end_lacks_aes_instructions(ours, theirs):
    ends = {A: Channel(A, suite=ours), B: Channel(B, suite=theirs)}
    hellos = {party: end.hello() for party, end in ends.items()}
    for end in ends.values():
        end.meet(hellos)
    key, record = sent()
    sealed = ends[A].seal(B, key, record)
    assert type(ends[A]._out[B]).__name__ == "ChaCha20Poly1305"
    assert ends[B].open(key, sealed) == record


def test_a_record_refused_for_one_part_may_still_come_as_it_was_sent():
    ends = meet(A, B)
    key, record = sent()
    sealed = ends[A].seal(B, key, record)
    with pytest.raises(WireError, match="authentication tag"):
        ends[B].open(key, changed(sealed, "body", data=sealed["body"].data[:-1] + b"x"))
    assert ends[B].open(key, sealed) == record
