"""Encryption between parties: the coordinator relays what it cannot read.

X25519 ephemeral keys, signed by the parties' Ed25519 identities (`vfl.identity`) and fresh for every run and every
restart, HKDF-SHA256 to one AES-256-GCM key for each direction, a counter as nonce, and the run, the envelope's header,
type and shape as associated data. Where a party's processor has no AES instructions, both ends of its channels take
ChaCha20-Poly1305 instead. A sealed array is Flower's `Array` of ciphertext and tag, with a serialisation type of ours
that names codec and counter, and with them the nonce: bytes are never put together or apart, which would cost as much
as sealing them.

Protects bodies and row handles from the coordinator and the network, and tells who sent them. Without identities it
does not authenticate who a public key belongs to: an *active* coordinator could stand in the middle.
"""

from __future__ import annotations

import hashlib
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from flwr.app import Array, ArrayRecord

from vfl.compat_flwr import array as make_array
from vfl.compat_flwr import arrays, items
from vfl.errors import WireError
from vfl.identity import PUBLIC_BYTES, SIGNATURE_BYTES, Credentials
from vfl.types import PartyId
from vfl.wire import STYPE, parse_header

AEAD_STYPE = "vfl.aead.v2"
_SEALED = re.compile(rf"{re.escape(AEAD_STYPE)}/([0-2])/([1-9][0-9]{{0,18}})")
_NONCE_BYTES, _TAG_BYTES = 12, 16
_CODECS = {"vfl.raw.v1": 0, "vfl.f16.v1": 1, "vfl.int8.v1": 2}
_STYPES = tuple(_CODECS)
AES, CHACHA = b"A", b"C"
_SUITES = {AES: AESGCM, CHACHA: ChaCha20Poly1305}
Cipher = AESGCM | ChaCha20Poly1305


@lru_cache(maxsize=1)
def preferred_suite() -> bytes:
    """Return the cipher that this machine is fast at: AES where its processor has instructions for it."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return CHACHA if platform.machine().startswith("arm") else AES
    return AES if " aes " in flags.replace("\n", " ") else CHACHA


@dataclass(slots=True)
class Channel:
    """One party's end of its sealed channels to all others. `meet` must be called before anything is sealed."""

    party: PartyId
    credentials: Credentials | None = None
    suite: bytes = field(default_factory=preferred_suite)
    _private: X25519PrivateKey = field(default_factory=X25519PrivateKey.generate, repr=False)
    _out: dict[PartyId, Cipher] = field(default_factory=dict[PartyId, Cipher], repr=False)
    _in: dict[PartyId, Cipher] = field(default_factory=dict[PartyId, Cipher], repr=False)
    _sent: dict[PartyId, int] = field(default_factory=dict[PartyId, int])
    _seen: dict[PartyId, int] = field(default_factory=dict[PartyId, int])
    _hellos: dict[PartyId, bytes] = field(default_factory=dict[PartyId, bytes], repr=False)

    @property
    def run(self) -> str:
        """The run that this channel is for, empty where nobody has an identity."""
        return self.credentials.run if self.credentials else ""

    @property
    def met(self) -> bool:
        """Whether this party has keys with others."""
        return bool(self._out)

    def hello(self) -> bytes:
        """Return this party's greeting, for all others to see: an ephemeral key, a cipher, a signature of both."""
        offer = self._private.public_key().public_bytes_raw() + self.suite
        return offer + (self.credentials.sign(self.party, offer) if self.credentials else b"")

    def meet(self, hellos: Mapping[PartyId, bytes]) -> None:
        """Derive one key for each direction with every other party, once: a second time would repeat nonces.

        Raises `WireError` for a party met before, for one that is not who it says, and for what is no greeting.
        """
        greeting = self.hello()
        own = greeting[: PUBLIC_BYTES + 1]
        if hellos.get(self.party, greeting) != greeting:
            raise WireError(f"{self.party} got its own greeting back with other content; it was tampered with")
        others = {other: hello for other, hello in hellos.items() if other != self.party}
        if known := others.keys() & self._out.keys():
            raise WireError(f"{self.party} has met {min(known)!r} before; a new channel needs a new key pair")
        made = {other: self._ciphers(other, own, self._checked(other, hello)) for other, hello in others.items()}
        for other, (out, in_) in made.items():  # only now: greetings refused for one of them leave no trace
            self._out[other], self._in[other] = out, in_
            self._sent[other] = self._seen[other] = 0
            self._hellos[other] = others[other]

    def _ciphers(self, other: PartyId, own: bytes, offer: bytes) -> tuple[Cipher, Cipher]:
        """Return what seals for a party and what opens what it seals, from both greetings' offers."""
        try:
            secret = self._private.exchange(X25519PublicKey.from_public_bytes(offer[:PUBLIC_BYTES]))
        except ValueError as error:
            raise WireError(f"got no valid public key of {other!r} ({error})") from None
        cipher = _SUITES[AES if (own[-1:], offer[-1:]) == (AES, AES) else CHACHA]
        salt = hashlib.sha256(b"".join(sorted((own, offer)))).digest()
        out, in_ = (f"{self.party}|{other}", f"{other}|{self.party}")
        return cipher(_derive(secret, salt, f"{self.run}|{out}")), cipher(_derive(secret, salt, f"{self.run}|{in_}"))

    def state(self) -> dict[str, Any]:
        """Return all that another process of this party needs to go on with the channel: secrets, for it alone."""
        hellos = {party: hello.hex() for party, hello in self._hellos.items()}
        return {"private": self._private.private_bytes_raw().hex(), "suite": self.suite.hex(), "hellos": hellos} | {
            "sent": dict(self._sent),
            "seen": dict(self._seen),
        }

    @staticmethod
    def resumed(party: PartyId, credentials: Credentials | None, state: Mapping[str, Any]) -> Channel:
        """Return the channel that `state` was taken of. Only one of the two may seal: a nonce must not come twice."""
        private = X25519PrivateKey.from_private_bytes(bytes.fromhex(state["private"]))
        channel = Channel(party, credentials, bytes.fromhex(state["suite"]), private)
        channel.meet({other: bytes.fromhex(hello) for other, hello in state["hellos"].items()})
        channel._sent.update(state["sent"])
        channel._seen.update(state["seen"])
        return channel

    def seal(self, dst: PartyId, key: str, record: ArrayRecord) -> ArrayRecord:
        """Return the record with every array encrypted for `dst`."""
        if dst not in self._out:
            raise WireError(f"{self.party} has no channel with {dst!r}; envelope {key!r} is not sent")
        return arrays({name: self._seal(dst, f"{key}/{name}", array) for name, array in items(record).items()})

    def open(self, key: str, record: ArrayRecord) -> ArrayRecord:
        """Return the record in the clear; raises `WireError` if it was tampered with, replayed or reordered.

        Its arrays are made for the caller, who may write to them.
        """
        _, src, _, _ = parse_header(key)
        if src not in self._in:
            raise WireError(f"{self.party} has no channel with {src!r}; envelope {key!r} refused")
        seen, opened = self._seen[src], dict[str, Array]()
        for name, array in items(record).items():
            seen, opened[name] = self._open(src, f"{key}/{name}", array, seen)
        self._seen[src] = seen  # only now: a record refused for one of its arrays may still come as it was sent
        return arrays(opened)

    def _checked(self, other: PartyId, hello: bytes) -> bytes:
        """Return the offer in a greeting once its signature is checked, where parties have identities."""
        offer, signature = hello[: PUBLIC_BYTES + 1], hello[PUBLIC_BYTES + 1 :]
        if len(offer) != PUBLIC_BYTES + 1 or offer[-1:] not in _SUITES or len(signature) not in (0, SIGNATURE_BYTES):
            raise WireError(f"got no valid public key of {other!r} ({len(hello)} bytes)")
        if self.credentials:
            self.credentials.verify(other, offer, signature)
        return offer

    def _seal(self, dst: PartyId, label: str, array: Array) -> Array:
        self._sent[dst] += 1
        codec, count = _CODECS[array.stype], self._sent[dst]
        sealed = self._out[dst].encrypt(_nonce(codec, count), array.data, self._associated(label, array))
        return make_array(array.dtype, array.shape, f"{AEAD_STYPE}/{codec}/{count}", sealed)

    def _open(self, src: PartyId, label: str, array: Array, seen: int) -> tuple[int, Array]:
        named = _SEALED.fullmatch(array.stype)
        if named is None or len(array.data) < _TAG_BYTES:
            raise WireError(
                f"{label!r} from {src} is not sealed; a run with its channel on takes sealed envelopes only"
            )
        codec, count = int(named[1]), int(named[2])
        if count <= seen:
            raise WireError(f"{label!r} from {src} was replayed or reordered (count {count}, seen {seen})")
        data = bytearray(len(array.data) - _TAG_BYTES)
        try:
            self._in[src].decrypt_into(_nonce(codec, count), array.data, self._associated(label, array), data)
        except InvalidTag:
            raise WireError(f"{label!r} from {src} was tampered with: its authentication tag does not match") from None
        return count, make_array(array.dtype, array.shape, _STYPES[codec], data)

    def _associated(self, label: str, array: Array) -> bytes:
        return f"{self.run}|{label}|{array.dtype}|{array.shape}".encode()


def _nonce(codec: int, count: int) -> bytes:
    return bytes([codec]) + count.to_bytes(_NONCE_BYTES - 1, "big")


def _derive(secret: bytes, salt: bytes, ends: str) -> bytes:
    info = f"vfl channel v3|{ends}".encode()
    return HKDF(algorithm=hashes.SHA256(), length=32, salt=salt, info=info).derive(secret)


assert set(_CODECS) == set(STYPE.values())
