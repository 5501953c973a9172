"""Who a party is: Ed25519 key pairs, the public keys that parties registered, and key files only their owner can read.

A private key signs the handshake of `vfl.channel` and nothing else. It is never written to a run directory, a
configuration or a log: a party reads it from its own key file, or, in a simulation without key files, is handed one
that was drawn for this run alone.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from vfl.errors import DataError, WireError
from vfl.types import PartyId

PUBLIC_BYTES, SIGNATURE_BYTES = 32, 64
DAY_S = 86_400
MOST_DAYS = 3650
PRIVATE_SUFFIX, PUBLIC_SUFFIX = ".key", ".pub"


@dataclass(frozen=True, slots=True)
class Registration:
    """A party's public key, 32 bytes, and until when it counts, in seconds since 1970."""

    public: bytes
    expires: float

    @property
    def fingerprint(self) -> str:
        """The first 16 bytes of the key's SHA-256, for two people to compare over the telephone."""
        return hashlib.sha256(self.public).hexdigest()[:32]


Registry = Mapping[PartyId, Registration]


@dataclass(frozen=True, slots=True)
class Credentials:
    """What one party knows of identities in a run: its own private key, or the file that holds it, and who registered.

    `run` is a text that no two runs share; it is signed, and part of every key and every seal.
    """

    run: str
    registry: Registry
    path: str | None = None
    private: bytes = field(default=b"", repr=False)

    def sign(self, party: PartyId, payload: bytes) -> bytes:
        """Return the party's signature, 64 bytes; raises `DataError` for a key file that cannot be used."""
        private = load_private(Path(self.path)) if self.path else Ed25519PrivateKey.from_private_bytes(self.private)
        return private.sign(_statement(self.run, party, payload))

    def verify(self, party: PartyId, payload: bytes, signature: bytes) -> None:
        """Raise `WireError` unless `party` is registered, its key counts still, and it signed `payload` for this run.

        The error says which of these it was.
        """
        known = self.registry.get(party)
        if known is None:
            raise WireError(f"got a greeting of {party!r}, who is not registered; register its public key first")
        if time.time() > known.expires:
            raise WireError(f"got a greeting of {party!r}, whose key has expired; register a new public key of it")
        if not signature:
            raise WireError(f"got a greeting of {party!r} without a signature; every party of this run signs its own")
        try:
            Ed25519PublicKey.from_public_bytes(known.public).verify(signature, _statement(self.run, party, payload))
        except (InvalidSignature, ValueError):
            message = f"got a greeting of {party!r} that its registered key did not sign for this run"
            raise WireError(f"{message}; it is an impostor, or was sent in another run") from None


def drawn(run: str, parties: tuple[PartyId, ...], days: float = 1.0) -> dict[PartyId, Credentials]:
    """Return credentials of every party for one simulated run, from key pairs drawn here and written nowhere."""
    pairs = {party: Ed25519PrivateKey.generate() for party in parties}
    expires = time.time() + days * DAY_S
    registry = {party: Registration(pair.public_key().public_bytes_raw(), expires) for party, pair in pairs.items()}
    return {party: Credentials(run, registry, private=pair.private_bytes_raw()) for party, pair in pairs.items()}


def stored(run: str, folder: Path, party: PartyId) -> Credentials:
    """Return a party's credentials from a folder: its own private key stays in its file, all public keys are read."""
    return Credentials(run, load_registry(folder), path=str(folder / f"{party}{PRIVATE_SUFFIX}"))


def check_new(folder: Path, party: PartyId, days: float) -> None:
    """Raise `DataError` where `create` would: for a name, a time or a key that is there already."""
    if not party.isidentifier():
        raise DataError(f"got {party!r}, allowed letters, digits and _; rename the party", where="keys")
    if not 0 < days <= MOST_DAYS:
        raise DataError(f"got {days} days, allowed more than 0 and at most {MOST_DAYS}", where="keys")
    path = folder / f"{party}{PRIVATE_SUFFIX}"
    if path.exists():
        raise DataError("got a key that is there already; move it away to make a new one", where=str(path))


def create(folder: Path, party: PartyId, days: float) -> Registration:
    """Write a new key pair of a party to `folder`: `PARTY.key` for its owner alone, `PARTY.pub` to pass on.

    Raises `DataError` where one stands there already: a lost private key cannot be made again. `days` is above 0, and
    at most ten years.
    """
    check_new(folder, party, days)
    private = Ed25519PrivateKey.generate()
    found = Registration(private.public_key().public_bytes_raw(), time.time() + days * DAY_S)
    text = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = folder / f"{party}{PRIVATE_SUFFIX}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"cannot be made ({error.strerror}); name another folder", where=str(folder)) from None
    try:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
            stream.write(text)
    except FileExistsError:
        raise DataError("got a key that is there already; move it away to make a new one", where=str(path)) from None
    except OSError as error:
        raise DataError(f"cannot be written ({error.strerror}); name another folder", where=str(path)) from None
    save_public(folder, party, found)
    return found


def save_public(folder: Path, party: PartyId, registration: Registration) -> None:
    """Write `PARTY.pub`, which anyone may read."""
    text = json.dumps({"party": party, "public": registration.public.hex(), "expires": registration.expires}, indent=2)
    (folder / f"{party}{PUBLIC_SUFFIX}").write_text(text + "\n", encoding="utf-8")


def load_registry(folder: Path) -> dict[PartyId, Registration]:
    """Return every public key in `folder` by party; raises `DataError` for a file that is no public key."""
    found: dict[PartyId, Registration] = {}
    for path in sorted(folder.glob(f"*{PUBLIC_SUFFIX}")):
        try:
            entry = json.loads(path.read_text(encoding="utf-8"))
            party, public, expires = entry["party"], bytes.fromhex(entry["public"]), float(entry["expires"])
            Ed25519PublicKey.from_public_bytes(public)
            if party != path.stem:
                raise ValueError(f"it is the key of {party!r}")
        except (OSError, ValueError, KeyError, TypeError) as error:
            message = f"got no public key of {path.stem!r} ({error}); ask that party for its file"
            raise DataError(message, where=str(path)) from None
        found[party] = Registration(public, expires)
    if not found:
        raise DataError("got a folder without public keys; run `vfl keys init`", where=str(folder))
    return found


def load_private(path: Path) -> Ed25519PrivateKey:
    """Return a private key from its file; raises `DataError` where others could read it, or it is no such key."""
    try:
        mode = path.stat()
        if stat.S_IMODE(mode.st_mode) & 0o077 or mode.st_uid != os.getuid():
            raise DataError("got a key file that others may read or own; run chmod 600 as its owner", where=str(path))
        private = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except FileNotFoundError:
        raise DataError("no such key file; run `vfl keys init`", where=str(path)) from None
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise DataError(f"cannot be read ({type(error).__name__}); run `vfl keys init`", where=str(path)) from None
    if not isinstance(private, Ed25519PrivateKey):
        raise DataError("got another kind of key, allowed Ed25519; run `vfl keys init`", where=str(path))
    return private


def _statement(run: str, party: PartyId, payload: bytes) -> bytes:
    return f"vfl hello v1|{run}|{party}|".encode() + payload
