"""Identities: who signs a greeting, who is refused and why, and key files that nobody else can read."""

from __future__ import annotations

import os
import pickle
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from vfl import identity
from vfl.channel import Channel
from vfl.errors import DataError, WireError

A, B = "publisher", "advertiser"
RUN = "run-1"


def refuses(mine: identity.Credentials, party: str, hello: bytes, told: str) -> None:
    with pytest.raises(WireError, match=told):
        Channel(B, mine).meet({party: hello})


def test_a_greeting_is_signed_by_the_registered_key():
    found = identity.drawn(RUN, (A, B))
    hello = Channel(A, found[A]).hello()
    Channel(B, found[B]).meet({A: hello})
    public = Ed25519PublicKey.from_public_bytes(found[B].registry[A].public)
    public.verify(hello[33:], b"vfl hello v1|run-1|publisher|" + hello[:33])


def test_who_is_not_registered_is_refused():
    found = identity.drawn(RUN, (A, B))
    refuses(found[B], "stranger", Channel("stranger", found[A]).hello(), "'stranger', who is not registered")


def test_an_expired_key_is_refused():
    found = identity.drawn(RUN, (A, B))
    old = {**found[B].registry, A: replace(found[B].registry[A], expires=1.0)}
    refuses(replace(found[B], registry=old), A, Channel(A, found[A]).hello(), "'publisher', whose key has expired")


def test_a_wrong_key_is_refused():
    found, others = identity.drawn(RUN, (A, B)), identity.drawn(RUN, (A, B))
    refuses(found[B], A, Channel(A, others[A]).hello(), "'publisher' that its registered key did not sign")


def test_a_greeting_of_another_run_or_party_or_key_is_refused():
    found = identity.drawn(RUN, (A, B))
    another = replace(found[A], run="run-2")
    refuses(found[B], A, Channel(A, another).hello(), "did not sign for this run")
    refuses(found[B], A, Channel(B, found[A]).hello(), "did not sign for this run")
    hello = Channel(A, found[A]).hello()
    refuses(found[B], A, Channel(A, found[A]).hello()[:33] + hello[33:], "did not sign for this run")


def test_a_greeting_without_a_signature_is_refused_where_parties_have_identities():
    found = identity.drawn(RUN, (A, B))
    refuses(found[B], A, Channel(A).hello(), "without a signature")


def test_two_runs_share_no_seal():
    """The same ephemeral keys under another run's name open nothing."""
    from tests.core.test_channel import sent

    found = identity.drawn(RUN, (A, B))
    ours, theirs = Channel(A, found[A]), Channel(B, found[B])
    ours.meet({B: theirs.hello()})
    theirs.meet({A: ours.hello()})
    other = Channel(B, found[B])
    other._in, other._seen = theirs._in, {A: 0}
    other.credentials = replace(found[B], run="run-2")
    key, record = sent(1, A, B)
    sealed = ours.seal(B, key, record)
    with pytest.raises(WireError, match="authentication tag"):
        other.open(key, sealed)
    assert theirs.open(key, sealed) == record


def test_key_files_are_for_their_owner_alone(tmp_path):
    identity.create(tmp_path / "keys", A, days=1)
    identity.create(tmp_path / "keys", B, days=1)
    assert (tmp_path / "keys" / "publisher.key").stat().st_mode & 0o777 == 0o600
    found = {party: identity.stored(RUN, tmp_path / "keys", party) for party in (A, B)}
    Channel(B, found[B]).meet({A: Channel(A, found[A]).hello()})


def test_a_key_is_never_overwritten(tmp_path):
    before = identity.create(tmp_path, A, days=1)
    with pytest.raises(DataError, match="there already"):
        identity.create(tmp_path, A, days=1)
    assert identity.load_registry(tmp_path) == {A: before}


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o622])
def test_a_key_file_that_others_may_read_is_refused(tmp_path, mode):
    identity.create(tmp_path, A, days=1)
    os.chmod(tmp_path / "publisher.key", mode)
    with pytest.raises(DataError, match="chmod 600"):
        Channel(A, identity.stored(RUN, tmp_path, A)).hello()


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"party": "publisher", "public": "00", "expires": 1}', "not json"])
def test_what_is_no_public_key_is_refused(tmp_path, text):
    (tmp_path / "publisher.pub").write_text(text)
    with pytest.raises(DataError, match="no public key of 'publisher'"):
        identity.load_registry(tmp_path)


@pytest.mark.parametrize("text", ["", "-----BEGIN PRIVATE KEY-----", "key"])
def test_what_is_no_private_key_is_refused(tmp_path, text):
    path = tmp_path / "publisher.key"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(DataError, match="cannot be read"):
        identity.load_private(path)


def test_a_private_key_is_in_no_text(tmp_path):
    """Of what may be logged: the credentials, the channel, and errors that name them."""
    found = identity.drawn(RUN, (A, B))
    channel = Channel(A, found[A])
    for text in (repr(found[A]), str(found), repr(channel)):
        assert found[A].private.hex() not in text
        assert repr(found[A].private)[2:-1] not in text
    identity.create(tmp_path, A, days=1)
    assert b"PRIVATE" not in pickle.dumps(identity.stored(RUN, tmp_path, A))
