"""Pairwise masks that cancel in a sum: what secure aggregation hides each summand with.

K. Bonawitz et al., Practical Secure Aggregation for Privacy-Preserving Machine Learning, CCS 2017,
https://eprint.iacr.org/2017/281. This is its masking, without the secret sharing that lets a sum be opened when a party
drops out: then nothing is opened.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
import torch
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from torch import Tensor

from vfl.errors import WireError

FRACTION_BITS = 24
LARGEST = 2.0**15
"""Values are clamped to +-2**15 before they are written with 24 bits behind the point, in 64 bits: no sum overflows."""


def to_fixed(values: Tensor) -> Tensor:
    """Return int64 fixed-point numbers, within 2**-25 of the values."""
    return (values.detach().double().clamp(-LARGEST, LARGEST) * 2**FRACTION_BITS).round().to(torch.int64)


def from_fixed(numbers: Tensor) -> Tensor:
    """Return the float32 values of fixed-point numbers."""
    return (numbers.double() / 2**FRACTION_BITS).float()


def shared_key(private: X25519PrivateKey, public: bytes, pair: str) -> bytes:
    """Return the 32-byte key that two parties share; raises `WireError` for what is no public key."""
    try:
        secret = private.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError:
        raise WireError("got no valid public key to mask with; refuse this peer") from None
    return HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=f"vfl masks v1|{pair}".encode()).derive(secret)


def mask(party: str, keys: Mapping[str, bytes], once: str, shape: tuple[int, ...]) -> Tensor:
    """Return the int64 mask of a party, modulo 2**64: over all parties that share `keys`, masks of one `once` sum to 0.

    `once` must be used for one body alone: under the same mask two bodies show their difference. Of each pair the party
    of the smaller name adds the ChaCha20 key stream, the other subtracts it.
    """
    total = np.zeros(shape, np.uint64)
    for other, key in keys.items():
        own = hashlib.blake2b(once.encode(), key=key, digest_size=32).digest()
        stream = Cipher(algorithms.ChaCha20(own, b"\0" * 16), mode=None).encryptor().update(b"\0" * total.nbytes)
        drawn = np.frombuffer(stream, np.uint64).reshape(shape)
        total = total + drawn if party < other else total - drawn
    return torch.from_numpy(total.view(np.int64))
