"""Encryption between parties: the coordinator relays what it cannot read.

X25519 ephemeral keys, HKDF-SHA256 to one AES-256-GCM key for each direction, a counter as nonce, and the envelope's
header, type and shape as associated data. A sealed array carries Flower's `Array` with a serialisation type of ours.

Protects bodies and row handles from the coordinator and the network. It does not authenticate who a public key belongs
to: in a simulation the coordinator hands the keys round, so an *active* coordinator could stand in the middle.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from flwr.app import Array, ArrayRecord

from vfl.errors import WireError
from vfl.types import PartyId
from vfl.wire import STYPE, parse_header

AEAD_STYPE = "vfl.aead.v1"
_NONCE_BYTES = 12
_CODECS = {"vfl.raw.v1": 0, "vfl.f16.v1": 1, "vfl.int8.v1": 2}
_STYPES = tuple(_CODECS)


@dataclass(slots=True)
class Channel:
    """One party's end of its sealed channels to all others. `meet` must be called before anything is sealed."""

    party: PartyId
    _private: X25519PrivateKey = field(default_factory=X25519PrivateKey.generate)
    _out: dict[PartyId, AESGCM] = field(default_factory=dict[PartyId, AESGCM])
    _in: dict[PartyId, AESGCM] = field(default_factory=dict[PartyId, AESGCM])
    _sent: dict[PartyId, int] = field(default_factory=dict[PartyId, int])
    _seen: dict[PartyId, int] = field(default_factory=dict[PartyId, int])

    def public(self) -> bytes:
        """Return this party's ephemeral public key, 32 bytes, for all others to see."""
        return self._private.public_key().public_bytes_raw()

    def meet(self, publics: Mapping[PartyId, bytes]) -> None:
        """Derive one key for each direction with every other party, once: a second time would repeat nonces.

        Raises `WireError` for a party met before, and for what is no public key.
        """
        for other, public in publics.items():
            if other == self.party:
                continue
            if other in self._out:
                raise WireError(f"{self.party} has met {other!r} before; a new channel needs a new key pair")
            try:
                secret = self._private.exchange(X25519PublicKey.from_public_bytes(public))
            except ValueError as error:
                raise WireError(f"got no valid public key of {other!r} ({error})") from None
            self._out[other] = AESGCM(_derive(secret, self.party, other))
            self._in[other] = AESGCM(_derive(secret, other, self.party))
            self._sent[other] = self._seen[other] = 0

    def seal(self, dst: PartyId, key: str, record: ArrayRecord) -> ArrayRecord:
        """Return the record with every array encrypted for `dst`."""
        return ArrayRecord({name: self._seal(dst, f"{key}/{name}", array) for name, array in record.items()})

    def open(self, key: str, record: ArrayRecord) -> ArrayRecord:
        """Return the record in the clear; raises `WireError` if it was tampered with, replayed or reordered."""
        _, src, _, _ = parse_header(key)
        if src not in self._in:
            raise WireError(f"{self.party} has no channel with {src!r}; envelope {key!r} refused")
        return ArrayRecord({name: self._open(src, f"{key}/{name}", array) for name, array in record.items()})

    def _seal(self, dst: PartyId, label: str, array: Array) -> Array:
        self._sent[dst] += 1
        nonce = bytes([_CODECS[array.stype]]) + self._sent[dst].to_bytes(_NONCE_BYTES - 1, "big")
        sealed = self._out[dst].encrypt(nonce, array.data, _associated(label, array))
        return Array(dtype=array.dtype, shape=array.shape, stype=AEAD_STYPE, data=nonce + sealed)

    def _open(self, src: PartyId, label: str, array: Array) -> Array:
        nonce, sealed = array.data[:_NONCE_BYTES], array.data[_NONCE_BYTES:]
        if array.stype != AEAD_STYPE or len(nonce) < _NONCE_BYTES or nonce[0] >= len(_STYPES):
            raise WireError(
                f"{label!r} from {src} is not sealed; a run with its channel on takes sealed envelopes only"
            )
        count = int.from_bytes(nonce[1:], "big")
        if count <= self._seen[src]:
            raise WireError(f"{label!r} from {src} was replayed or reordered (count {count}, seen {self._seen[src]})")
        try:
            data = self._in[src].decrypt(nonce, sealed, _associated(label, array))
        except InvalidTag:
            raise WireError(f"{label!r} from {src} was tampered with: its authentication tag does not match") from None
        self._seen[src] = count
        return Array(dtype=array.dtype, shape=array.shape, stype=_STYPES[nonce[0]], data=data)


def _derive(secret: bytes, src: PartyId, dst: PartyId) -> bytes:
    info = f"vfl channel v1|{src}|{dst}".encode()
    return HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=info).derive(secret)


def _associated(label: str, array: Array) -> bytes:
    return f"{label}|{array.dtype}|{array.shape}".encode()


assert set(_CODECS) == set(STYPE.values())
