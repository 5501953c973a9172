"""Masking commutes, hashes onto the group it says, refuses what is no point, and needs no memory that grows with n."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import ECDH, SECP256R1, EllipticCurvePublicKey, derive_private_key

from vfl.crypto.hash_to_curve import N, P, hash_to_field
from vfl.crypto.masking import CHUNK, P256_DST, mask_messages, mask_points, p256_scalar
from vfl.errors import WireError

ONE, TWO = hashlib.sha512(b"one").digest(), hashlib.sha512(b"two").digest()
IDS = [f"user {place}".encode() for place in range(40)]


def test_two_masks_commute() -> None:
    there = mask_points(TWO, mask_messages(ONE, IDS))
    back = mask_points(ONE, mask_messages(TWO, IDS))
    assert np.array_equal(there, back)
    assert len({row.tobytes() for row in there}) == len(IDS)


def test_another_secret_or_id_gives_another_point() -> None:
    rows = [*mask_messages(ONE, IDS), *mask_messages(TWO, IDS), *mask_messages(ONE, [b"", b"\0"])]
    assert len({row.tobytes() for row in rows}) == 2 * len(IDS) + 2


def test_p256_multiplies_the_point_of_the_standard() -> None:
    """The root is searched with plain integers, the product taken with OpenSSL from the uncompressed point."""
    from tests.crypto.test_hash_to_curve import curve, slow_swu_x

    for message in IDS[:8]:
        x = slow_swu_x(hash_to_field(message, P256_DST))
        y = pow(curve(x), (P + 1) // 4, P)
        key = EllipticCurvePublicKey.from_encoded_point(
            SECP256R1(), b"\4" + x.to_bytes(32, "big") + y.to_bytes(32, "big")
        )
        expected = derive_private_key(p256_scalar(ONE), SECP256R1()).exchange(ECDH(), key)
        assert mask_messages(ONE, [message]).tobytes() == expected


def test_p256_scalars_fill_the_whole_range_and_never_leave_it() -> None:
    assert p256_scalar(bytes(64)) == 1
    assert p256_scalar((N - 2).to_bytes(64, "big")) == N - 1
    assert p256_scalar((N - 1).to_bytes(64, "big")) == 1


def off_the_curve() -> int:
    from tests.crypto.test_hash_to_curve import curve, is_square

    return next(x for x in range(100) if not is_square(curve(x)))


BAD = {
    "off the curve": off_the_curve().to_bytes(32, "big"),
    "not reduced": P.to_bytes(32, "big"),
    "all ones": b"\xff" * 32,
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_point_is_refused(name) -> None:
    points = mask_messages(ONE, IDS)
    points = np.concatenate([points, np.frombuffer(BAD[name], np.uint8)[None]])
    with pytest.raises(WireError, match="refuse this peer"):
        mask_points(TWO, points)


@pytest.mark.parametrize("count", [0, 1, CHUNK, CHUNK + 1])
def test_order_and_count_survive_the_chunks(count: int) -> None:
    ids = [b"%d" % place for place in range(count)]
    masked = mask_messages(ONE, ids)
    assert masked.shape == (count, 32)
    assert masked.dtype == np.uint8
    for place in {0, count // 2, count - 1} & set(range(count)):
        assert np.array_equal(masked[place], mask_messages(ONE, [ids[place]])[0])


def test_workers_change_nothing_and_their_refusals_come_back() -> None:
    for count in (0, 1, CHUNK, 6 * CHUNK + 3):
        ids = [b"%d" % place for place in range(count)]
        assert np.array_equal(mask_messages(ONE, ids, workers=2), mask_messages(ONE, ids))
    with pytest.raises(WireError, match="not on P-256"):
        mask_points(ONE, np.full((3, 32), 255, np.uint8), workers=2)


def test_memory_beside_the_points_does_not_grow_with_their_number() -> None:
    def extra(count: int) -> int:
        tracemalloc.start()
        try:
            masked = mask_messages(ONE, (b"%d" % place for place in range(count)))
            return tracemalloc.get_traced_memory()[1] - 2 * masked.nbytes
        finally:
            tracemalloc.stop()

    few, many = extra(2 * CHUNK), extra(8 * CHUNK)
    assert many < 1.2 * few + 2**16


def test_workers_import_nothing_heavy() -> None:
    code = "import sys, vfl.crypto.masking; sys.exit('torch' in sys.modules or 'flwr' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


ORPHANS = """
import os, signal, sys
from vfl.crypto import masking
if __name__ == "__main__":
    masking.mask_messages(bytes(64), [b"a"] * 4 * masking.CHUNK, workers=2)
    print(*masking._pool(1)._processes, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_workers_end_with_a_parent_that_is_killed(tmp_path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(ORPHANS)
    done = subprocess.run(
        [sys.executable, str(script)], check=False, stdout=subprocess.PIPE, text=True, timeout=60, env=environment()
    )
    assert done.returncode == -signal.SIGKILL
    workers = [int(pid) for pid in done.stdout.split()]
    assert len(workers) >= 1
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{pid}").exists() for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(alive(pid) for pid in workers)


def alive(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().split()[2] != "Z"


def environment() -> dict[str, str]:
    root = str(Path(__file__).resolve().parents[2])
    return {**os.environ, "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}
