"""Private set intersection against `openmined-psi`, on one core and on two, the reference timed in turns with ours."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from statistics import median

from experiments.align_files import play
from experiments.bench.figures import Figure
from vfl.align.ecdh_psi import EcdhPsi
from vfl.crypto.masking import CHUNK, mask_messages
from vfl.seeds import Seeds
from vfl.types import ADVERTISER

IDS = 100_000
CORES = (1, 2)
PARTIES = ("publisher", ADVERTISER)


def measure(ids: int, repeats: int) -> list[Figure]:
    """Return the figures `psi/p256/NCORE`: ids a second of each side, half of them shared, both sides' work counted.

    Ours is the whole round of `ecdh_psi` through the codec of the wire; its worker processes are up before the clock
    starts, as the reference's library is loaded. A ratio compares a turn with the mean of the reference's turns before
    and after it. The reference is on one core throughout: `openmined-psi` has no threads.
    """
    figures: list[Figure] = []
    reference = openmined(ids)
    before = _rate(reference, ids)
    for cores in CORES:
        ours, ours_rates, reference_rates = ecdh(ids, cores), list[float](), list[float]()
        for _ in range(repeats):
            ours_rates.append(_rate(ours, ids))
            after = _rate(reference, ids)
            reference_rates.append((before + after) / 2)
            before = after
        figures.append(_figure(f"psi/p256/{cores}core", ours_rates, reference_rates))
        sys.stderr.write(f"{figures[-1].name}: {figures[-1].value:,.0f} ids/s, ratio {figures[-1].ratio:.2f}\n")
    return figures


def ecdh(ids: int, workers: int) -> Callable[[], int]:
    """Return a call that aligns two parties with `ecdh_psi` and returns how many rows they share."""
    theirs, ours = _tables(ids)
    aligner = EcdhPsi(workers=workers)
    if workers > 1:
        mask_messages(bytes(64), (b"%d" % place for place in range(workers * CHUNK)), workers)

    def work() -> int:
        seeds = {party: Seeds(0).scope(party) for party in PARTIES}
        played = play(aligner, dict(zip(PARTIES, (theirs, ours), strict=True)), seeds)
        return len(played.alignments[ADVERTISER].order)

    return work


def openmined(ids: int) -> Callable[[], int]:
    """Return a call that intersects the same tables with `openmined-psi`, revealing the intersection to the client."""
    import private_set_intersection.python as psi

    theirs, ours = _tables(ids)

    def work() -> int:
        client, server = psi.client.CreateWithNewKey(True), psi.server.CreateWithNewKey(True)
        setup = server.CreateSetupMessage(0.0, len(ours), theirs, psi.DataStructure.RAW)
        response = server.ProcessRequest(client.CreateRequest(ours))
        return len(client.GetIntersection(setup, response))

    return work


def _tables(ids: int) -> tuple[list[str], list[str]]:
    half = ids // 2
    return [f"user {place}" for place in range(ids)], [f"user {place}" for place in range(half, half + ids)]


def _rate(work: Callable[[], int], ids: int) -> float:
    began = time.perf_counter()
    found = work()
    passed = time.perf_counter() - began
    if found != ids - ids // 2:
        raise RuntimeError(f"got an intersection of {found} ids, allowed {ids - ids // 2}; what is timed is wrong")
    return ids / passed


def _figure(name: str, ours: list[float], reference: list[float]) -> Figure:
    ratios = [mine / other for mine, other in zip(ours, reference, strict=True)]
    spread = (min(ratios), max(ratios))
    return Figure(name, median(ours), "ids/s", median(reference), median(ratios), len(ours), spread)
