"""RFC 9380: the suite's own vectors, and a slow twin of the map that looks for the root itself."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from hypothesis import given
from hypothesis import strategies as st

from vfl.crypto.hash_to_curve import B, N, P, Z, expand_message_xmd, hash_to_field, x_candidates

DST = b"QUUX-V01-CS02-with-P256_XMD:SHA-256_SSWU_NU_"
# Appendix J.1.2: message, u[0], P.x, P.y.
VECTORS = [
    (
        "",
        "b22d487045f80e9edcb0ecc8d4bf77833e2bf1f3a54004d7df1d57f4802d311f",
        "f871caad25ea3b59c16cf87c1894902f7e7b2c822c3d3f73596c5ace8ddd14d1",
        "87b9ae23335bee057b99bac1e68588b18b5691af476234b8971bc4f011ddc99b",
    ),
    (
        "abc",
        "c7f96eadac763e176629b09ed0c11992225b3a5ae99479760601cbd69c221e58",
        "fc3f5d734e8dce41ddac49f47dd2b8a57257522a865c124ed02b92b5237befa4",
        "fe4d197ecf5a62645b9690599e1d80e82c500b22ac705a0b421fac7b47157866",
    ),
    (
        "abcdef0123456789",
        "314e8585fa92068b3ea2c3bab452d4257b38be1c097d58a21890456c2929614d",
        "f164c6674a02207e414c257ce759d35eddc7f55be6d7f415e2cc177e5d8faa84",
        "3aa274881d30db70485368c0467e97da0e73c18c1d00f34775d012b6fcee7f97",
    ),
    (
        "q128_" + "q" * 128,
        "752d8eaa38cd785a799a31d63d99c2ae4261823b4a367b133b2c6627f48858ab",
        "324532006312be4f162614076460315f7a54a6f85544da773dc659aca0311853",
        "8d8197374bcd52de2acfefc8a54fe2c8d8bebd2a39f16be9b710e4b1af6ef883",
    ),
    (
        "a512_" + "a" * 512,
        "0e1527840b9df2dfbef966678ff167140f2b27c4dccd884c25014dce0e41dfa3",
        "5c4bad52f81f39c8e8de1260e9a06d72b8b00a0829a8ea004a610b0691bea5d9",
        "c801e7c0782af1f74f24fc385a8555da0582032a3ce038de637ccdcb16f7ef7b",
    ),
]


def point(x: int, y_parity: int) -> EllipticCurvePublicKey:
    return EllipticCurvePublicKey.from_encoded_point(SECP256R1(), bytes([2 + y_parity]) + x.to_bytes(32, "big"))


@pytest.mark.parametrize(("message", "u", "x", "y"), VECTORS, ids=[f"{len(row[0])} bytes" for row in VECTORS])
def test_the_suite_gives_the_vectors_of_the_standard(message: str, u: str, x: str, y: str) -> None:
    element = hash_to_field(message.encode(), DST)
    assert element == int(u, 16)
    candidates = x_candidates([element])[0]
    assert next(each for each in candidates if is_square(curve(each))) == int(x, 16)
    assert point(int(x, 16), element % 2).public_numbers().y == int(y, 16)


def test_bytes_are_expanded_as_the_standard_does() -> None:
    """Appendix K.1, message `abc`, 32 and 128 bytes: one block and several."""
    dst = b"QUUX-V01-CS02-with-expander-SHA256-128"
    assert expand_message_xmd(b"abc", dst, 32).hex() == (
        "d8ccab23b5985ccea865c6c97b6e5b8350e794e603b4b97902f53a8a0d605615"
    )
    assert expand_message_xmd(b"abc", dst, 128).hex() == (
        "abba86a6129e366fc877aab32fc4ffc70120d8996c88aee2fe4b32d6c7b6437a647e6c3163d40b76a73cf6a5674ef1d890f95b"
        "664ee0afa5359a5c4e07985635bbecbac65d747d3d2da7ec2b8221b17b0ca9dc8a1ac1c07ea6a1e60583e2cb00058e77b7b72a298425"
        "cd1b941ad4ec65e8afc50303a22c0f99b0509b4c895f40"
    )


def curve(x: int) -> int:
    return (x**3 - 3 * x + B) % P


def is_square(value: int) -> bool:
    return pow(value, (P - 1) // 2, P) in (0, 1)


def slow_swu_x(u: int) -> int:
    """Section 6.6.2 word for word, one element at a time."""
    denominator = (Z * Z * pow(u, 4, P) + Z * u * u) % P
    inverse = pow(denominator, P - 2, P)
    x = -B * pow(-3, -1, P) * (1 + inverse) % P if inverse else B * pow(-3 * Z, -1, P) % P
    return x if is_square(curve(x)) else Z * u * u * x % P


ROOT_OF_MINUS_ONE_OVER_Z = pow(-pow(Z, -1, P) % P, (P + 1) // 4, P)
"""Where Z u^2 = -1, as where u = 0, the map divides by zero and takes its exceptional value."""


@given(st.lists(st.integers(0, P - 1), max_size=6))
def test_many_at_once_are_as_one_by_one(elements: list[int]) -> None:
    elements = [*elements, 0, ROOT_OF_MINUS_ONE_OVER_Z, 1]
    assert Z * ROOT_OF_MINUS_ONE_OVER_Z**2 % P == P - 1
    for element, pair in zip(elements, x_candidates(elements), strict=True):
        chosen = next(each for each in pair if is_square(curve(each)))
        assert chosen == slow_swu_x(element)


def test_the_constants_are_those_of_the_curve() -> None:
    """OpenSSL knows the curve: a point it makes solves the equation, and N - 1 is the last scalar it takes."""
    from cryptography.hazmat.primitives.asymmetric.ec import derive_private_key

    numbers = derive_private_key(12345, SECP256R1()).public_key().public_numbers()
    assert curve(numbers.x) == numbers.y**2 % P
    assert derive_private_key(N - 1, SECP256R1()).public_key().public_numbers().x == (
        derive_private_key(1, SECP256R1()).public_key().public_numbers().x
    )
    with pytest.raises(ValueError, match="out of range"):
        derive_private_key(N, SECP256R1()).public_key()


@pytest.mark.parametrize(("dst", "length"), [(b"x" * 256, 32), (b"x", 255 * 32 + 1)])
def test_a_tag_or_length_that_the_standard_excludes_is_refused(dst: bytes, length: int) -> None:
    with pytest.raises(ValueError, match="allowed 255 and 8160"):
        expand_message_xmd(b"", dst, length)
