"""What sizes alone give away: membership in a partner's set, from how large intersections are, asked often enough."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from heapq import heappop, heappush
from statistics import fmean

import torch
from torch import Tensor

from vfl.attacks import Guess, Needs
from vfl.errors import ThreatError
from vfl.transcript import AdversaryView
from vfl.types import Kind

Ask = Callable[[Tensor], float]
TRAINED = 0
"""The pool of training rows in an alignment's announcement."""


@dataclass(frozen=True)
class PsiSize:
    """Finds out which rows are trained on from counts alone: how many of a set it chooses are, question by question.

    A replay of a matching that tells sizes and not members, which the platform does not have: a publisher is told the
    pool of each of its rows, and the answers here are counts of that. Halves are asked for in turn, those that leave
    most open first, until `questions` answers were had; a row whose part was not settled scores the share of its part.
    With `epsilon` each answer carries the noise of the geometric mechanism, and `repeats` answers are averaged, each of
    which counts: what protects one answer does not protect as many as anybody likes.

    With k members among n rows about 2 k log2(n / k) + 2 k questions settle all, so counts protect many members well
    and few hardly. Rows that are trained on are most of a table; sets that are rare in it are found sooner.

    Reference: X. Guo, Y. Han, Z. Liu, D. Wang, Y. Jia, J. Li, Birds of a Feather Flock Together: How Set Bias Helps to
    Deanonymize You via Revealed Intersection Sizes, USENIX Security 2022,
    https://www.usenix.org/conference/usenixsecurity22/presentation/guo

    Halving is the plain adaptive strategy; the paper's, which also use what is likely beforehand, ask less.
    """

    questions: int = 1000
    epsilon: float | None = None
    repeats: int = 1

    def __post_init__(self) -> None:
        for name in ("questions", "repeats"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: got {getattr(self, name)}, allowed any whole number from 1; raise it")
        if self.epsilon is not None and not (math.isfinite(self.epsilon) and self.epsilon > 0):
            raise ValueError(f"epsilon: got {self.epsilon}, allowed any number above 0, or null for exact counts")

    @property
    def needs(self) -> Needs:
        """What an alignment announced to it."""
        return Needs(received=frozenset({Kind.PSI, Kind.CONTROL}))

    def infer(self, view: AdversaryView, rng: torch.Generator) -> Guess:
        """Return a score from 0 to 1 of each announced row; raises `ThreatError` where nothing was announced to it."""
        members = _announced(view) == TRAINED
        order = torch.randperm(len(members), generator=rng)  # handles are in the order of pools, the ids asked for not

        def ask(part: Tensor) -> float:
            return float(members[order[part]].sum()) + (0.0 if self.epsilon is None else noise(self.epsilon, rng))

        chances, _ = by_size(len(members), ask, self.questions, self.repeats)
        rows = torch.arange(len(members))
        scores = torch.empty(len(members), dtype=torch.float64)
        scores[order] = chances
        return Guess("membership", torch.zeros_like(rows), rows, scores)


def by_size(count: int, ask: Ask, questions: float = math.inf, repeats: int = 1) -> tuple[Tensor, int]:
    """Return the `(count,)` chance of each place to be of the partner's set, and how often it was asked.

    `ask` gives the size of the intersection with the places it is handed, each time anew. Of a part that is halved the
    second half's size follows from the first's. No more than `questions` are put.
    """
    chances, asked = torch.full((count,), 0.5, dtype=torch.float64), 0
    open_parts: list[tuple[float, int, int, int]] = []

    def settle(start: int, end: int, size: int) -> None:
        chances[start:end] = size / (end - start)
        if 0 < size < end - start:
            heappush(open_parts, (size * (size / (end - start) - 1), start, end, size))

    def sized(start: int, end: int, most: int) -> int:
        nonlocal asked
        asked += repeats
        places = torch.arange(start, end)
        return min(max(round(fmean(ask(places) for _ in range(repeats))), 0), most)

    if count and questions >= repeats:
        settle(0, count, sized(0, count, count))
    while open_parts and asked + repeats <= questions:
        _, start, end, size = heappop(open_parts)
        middle = (start + end) // 2
        first = min(max(sized(start, middle, middle - start), size - (end - middle)), size)
        settle(start, middle, first)
        settle(middle, end, size - first)
    return chances, asked


def noise(epsilon: float, rng: torch.Generator) -> float:
    """Return a draw of the geometric mechanism for a count: the difference of two geometric draws."""
    drawn = torch.empty(2, dtype=torch.float64).geometric_(1 - math.exp(-epsilon), generator=rng)
    return float(drawn[0] - drawn[1])


def _announced(view: AdversaryView) -> Tensor:
    """Return the pools that the advertiser announced, `(shared,)` by handle."""
    for envelope in view.received:
        if envelope.kind in (Kind.PSI, Kind.CONTROL):
            body = envelope.body
            if body.dtype == torch.int64 and body.ndim == 2 and body.shape[1] == 2:
                return body[:, 1]
    raise ThreatError("got a record without an announcement, allowed the run of a publisher, whole", key="attack")
