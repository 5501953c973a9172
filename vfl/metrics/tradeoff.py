"""Utility against leakage: VFLAIR's defense scores, the Pareto front, and the area under it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence


def defense_score(leak: float, drop: float, *, weight: float = 0.5, least_leak: float = 0.0) -> float:
    """Return VFLAIR's DCS of one attack under a defense, from 1 (nothing leaks, nothing is lost) downwards.

    `leak` is the attack's performance from 0 to 1, `drop` what the main task loses to the undefended run, `weight` the
    main task's share of the distance. `least_leak` is what counts as no leakage: VFLAIR has 0, which blames a defense
    for what chance alone reaches; pass the chance level for a score that does not. Gains count as no loss.

    Reference: T. Zou, Z. Gu, Y. He, H. Takahashi, Y. Liu, Y.-Q. Zhang, VFLAIR: A Research Library and Benchmark for
    Vertical Federated Learning, ICLR 2024, https://arxiv.org/abs/2310.09827
    """
    if not 0 <= weight <= 1:
        raise ValueError(f"weight: got {weight}, allowed from 0 to 1; VFLAIR has 0.5")
    beyond, lost = max(leak - least_leak, 0.0), max(drop, 0.0)
    return 1 / (1 + math.sqrt((1 - weight) * beyond**2 + weight * lost**2))


def scores_by_type(scores: Mapping[str, Sequence[float]]) -> tuple[dict[str, float], float]:
    """Return VFLAIR's T-DCS, the mean score of each type of attack, and its C-DCS, the mean of those over types.

    Types without a score are left out. Raises `ValueError` where none has one.
    """
    by_type = {name: sum(found) / len(found) for name, found in scores.items() if found}
    if not by_type:
        raise ValueError("scores: got no type with a score, allowed one or more; mark an attack first")
    return by_type, sum(by_type.values()) / len(by_type)


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Return the places of `(utility, leak)` points that no other beats: none has more utility and no more leakage.

    In order of utility. Of equal points the first stands.
    """
    ranked = sorted(range(len(points)), key=lambda place: (-points[place][0], points[place][1], place))
    front: list[int] = []
    least = math.inf
    for place in ranked:
        if points[place][1] < least:
            front.append(place)
            least = points[place][1]
    return front[::-1]


def hypervolume(points: Sequence[tuple[float, float]], worst: tuple[float, float], best: tuple[float, float]) -> float:
    """Return the share from 0 to 1 of the rectangle between `worst` and `best` that the points reach.

    `worst` is (utility of the advertiser alone, leakage undefended), `best` (utility undefended, leakage at chance);
    each point adds what it beats in both. Raises `ValueError` where the two span no area.
    """
    width, height = best[0] - worst[0], worst[1] - best[1]
    if not (width > 0 and height > 0):
        raise ValueError(f"worst and best: got {worst} and {best}, allowed a best of more utility and less leakage")
    inside = [((u - worst[0]) / width, (worst[1] - leak) / height) for u, leak in points]
    clipped = [(min(max(u, 0.0), 1.0), min(max(kept, 0.0), 1.0)) for u, kept in inside]
    area, reached = 0.0, 0.0
    for u, kept in sorted(clipped, reverse=True):
        area += u * max(kept - reached, 0.0)
        reached = max(reached, kept)
    return area
