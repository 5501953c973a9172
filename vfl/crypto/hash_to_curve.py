"""Hash byte strings to points of P-256, as RFC 9380 encodes them: suite `P256_XMD:SHA-256_SSWU_NU_`.

Reference: A. Faz-Hernandez, S. Scott, N. Sullivan, R. S. Wahby, C. A. Wood, Hashing to Elliptic Curves, RFC 9380,
2023, https://www.rfc-editor.org/rfc/rfc9380

Only the x-coordinate is computed here, as two candidates: the one whose curve equation has a root is the point's. A
caller that needs a point on the curve has a library find that root anyway, so it tries the first and then the second.
Nothing here runs in constant time: Python's integers do not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

P = 2**256 - 2**224 + 2**192 + 2**96 - 1
"""The prime of P-256's field."""
N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""The prime order of P-256's group."""
B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
"""The constant of its equation y^2 = x^3 - 3 x + B."""
Z = P - 10
"""The suite's non-square."""

_B_OVER_3 = B * pow(3, -1, P) % P
_EXCEPTIONAL_X = B * pow(-3 * Z, -1, P) % P
_FIELD_BYTES = 48
_SHA256 = hashlib.sha256
_PADDED = _SHA256(bytes(64))
_MAX_DST_BYTES = 255


def expand_message_xmd(message: bytes, dst: bytes, length: int) -> bytes:
    """Return `length` uniform bytes (at most 255 * 32) from a message under a domain separation tag, with SHA-256.

    Raises `ValueError` for a tag above 255 bytes or a length that the counter cannot reach.
    """
    blocks = -(-length // 32)
    if len(dst) > _MAX_DST_BYTES or blocks > 255:
        raise ValueError(f"got a tag of {len(dst)} bytes and length {length}, allowed 255 and 8160; shorten them")
    tail = b"%b%c" % (dst, len(dst))
    whole = _PADDED.copy()
    whole.update(b"%b%b\0%b" % (message, length.to_bytes(2, "big"), tail))
    first = whole.digest()
    block = _SHA256(b"%b\1%b" % (first, tail)).digest()
    found, number = block, int.from_bytes(first, "big")
    for place in range(2, blocks + 1):
        mixed = number ^ int.from_bytes(block, "big")
        block = _SHA256(b"%b%c%b" % (mixed.to_bytes(32, "big"), place, tail)).digest()
        found += block
    return found[:length]


def hash_to_field(message: bytes, dst: bytes) -> int:
    """Return the field element of a message, 0 to P - 1."""
    return int.from_bytes(expand_message_xmd(message, dst, _FIELD_BYTES), "big") % P


def x_candidates(elements: Sequence[int]) -> list[tuple[int, int]]:
    """Return the two x-coordinates that the simplified SWU map tries for each field element, in the order it does.

    The point's x is the first if x^3 - 3 x + B is a square, else the second, whose is. One inversion serves the whole
    sequence (Montgomery's trick), so it is worth calling with hundreds of elements.
    """
    scaled = [Z * element * element % P for element in elements]
    denominators = [(each * each + each) % P for each in scaled]
    inverses = _inverses(denominators)
    firsts = [
        _B_OVER_3 * (denominator + 1) * inverse % P if denominator else _EXCEPTIONAL_X
        for denominator, inverse in zip(denominators, inverses, strict=True)
    ]
    return [(first, first * each % P) for first, each in zip(firsts, scaled, strict=True)]


def _inverses(values: Sequence[int]) -> list[int]:
    """Return the inverses modulo P, 0 for 0."""
    products, running = list[int](), 1
    for value in values:
        products.append(running)
        running = running * (value or 1) % P
    inverse = pow(running, -1, P)
    found = [0] * len(values)
    for place in range(len(values) - 1, -1, -1):
        if values[place]:
            found[place] = products[place] * inverse % P
            inverse = inverse * values[place] % P
    return found
