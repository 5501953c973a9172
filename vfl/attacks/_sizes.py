"""What sizes alone give away: membership in a partner's table, from how large the intersection is, asked often enough.

For alignments that tell no more than a size (a count of shared rows before anything is signed, say). `ecdh_psi` tells
its parties which of their own ids are shared anyway, so there one run tells as much.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean

Ask = Callable[[Sequence[str]], float]


def members_by_size(ids: Sequence[str], ask: Ask, repeats: int = 1) -> tuple[set[str], int]:
    """Return which of `ids` the partner holds, and how often it was asked: `ask` gives the size of an intersection.

    Halves are asked for in turn, and a half that holds none or all of its ids is not cut further, so k members of n
    take at most about 2 k log2(n / k) + 2 k questions. A noised size is asked for `repeats` times and averaged: what
    protects one answer does not protect as many as anybody likes, unless they are counted.

    Reference: X. Guo, Y. Han, Z. Liu, D. Wang, Y. Jia, J. Li, Birds of a Feather Flock Together: How Set Bias Helps to
    Deanonymize You via Revealed Intersection Sizes, USENIX Security 2022,
    https://www.usenix.org/conference/usenixsecurity22/presentation/guo

    Halving is the plain adaptive strategy; the paper's, which also use what is likely beforehand, ask less.
    """
    asked = 0

    def size(part: Sequence[str]) -> int:
        nonlocal asked
        asked += repeats
        return round(fmean(ask(part) for _ in range(repeats)))

    found: set[str] = set()
    left = [(list(ids), size(ids))] if ids else []
    while left:
        part, count = left.pop()
        if count >= len(part):
            found |= set(part)
        elif count > 0:
            half = len(part) // 2
            first = min(max(size(part[:half]), 0), count)
            left += [(part[:half], first), (part[half:], count - first)]
    return found, asked
