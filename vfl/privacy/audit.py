"""Lower bounds on epsilon from what an attacker got right: a claimed epsilon below its audited bound is refuted."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import special

_HALVINGS = 60
_LARGEST = 40.0


@dataclass(frozen=True, slots=True)
class Trials:
    """An attacker's answers about trials where the unit was in (`members`) or out, at a threshold fixed beforehand.

    `true_positives` of the `members` and `false_positives` of the `others` were called in. A threshold picked on the
    same trials voids the bound.
    """

    true_positives: int
    members: int
    false_positives: int
    others: int


def clopper_pearson(trials: Trials, delta: float = 0.0, confidence: float = 0.95) -> float:
    """Return the epsilon, from 0, that the answers exceed with `confidence`, at a given delta.

    Both error rates are bounded from above, each at half of what confidence leaves.

    Reference: M. Nasr, S. Song, A. Thakurta, N. Papernot, N. Carlini, Adversary Instantiation: Lower Bounds for
    Differentially Private Machine Learning, IEEE S&P 2021, https://arxiv.org/abs/2101.04535
    """
    share = (1 - confidence) / 2
    false_positive = _most(trials.false_positives, trials.others, share)
    false_negative = _most(trials.members - trials.true_positives, trials.members, share)
    pairs = ((1 - false_negative - delta, false_positive), (1 - false_positive - delta, false_negative))
    return max([0.0, *(math.log(right / wrong) for right, wrong in pairs if right > 0)])


def one_run(right: int, guessed: int, canaries: int, delta: float = 0.0, confidence: float = 0.95) -> float:
    """Return the epsilon, from 0, that one run's answers exceed with `confidence`, at a given delta.

    Each of the `canaries` was put in by its own fair coin; of the `guessed` (how many, fixed beforehand) `right` were
    called correctly, the others were left open.

    Reference: T. Steinke, M. Nasr, M. Jagielski, Privacy Auditing with One (1) Training Run, NeurIPS 2023,
    https://arxiv.org/abs/2305.08846
    """
    if not 0 <= right <= guessed <= canaries:
        raise ValueError(f"got right {right}, guessed {guessed}, canaries {canaries}; allowed rising numbers from 0")
    level = 1 - confidence
    if _chance_of(right, guessed, canaries, 0.0, delta) >= level:
        return 0.0
    low, high = 0.0, _LARGEST
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if _chance_of(right, guessed, canaries, middle, delta) < level else (low, middle)
    return low


def _most(count: int, trials: int, share: float) -> float:
    """Return the greatest rate at which so few of so many are not rarer than `share`."""
    return 1.0 if count >= trials else float(special.betaincinv(count + 1, trials - count, 1 - share))


def _chance_of(right: int, guessed: int, canaries: int, epsilon: float, delta: float) -> float:
    """Return the greatest chance of `right` or more correct guesses under (`epsilon`, `delta`)-DP."""
    correct = 1 / (1 + math.exp(-epsilon))
    chance = float(special.betainc(right, guessed - right + 1, correct)) if right else 1.0
    if delta and right:
        exactly = _binomial(guessed, correct)
        at_least = np.append(np.cumsum(exactly[::-1])[::-1], 0.0)
        shortfall = at_least[:right][::-1] - at_least[right]
        chance += 2 * canaries * delta * float((shortfall / np.arange(1, right + 1)).max())
    return min(chance, 1.0)


def _binomial(trials: int, chance: float) -> np.ndarray:
    """Return the `(trials + 1,)` chances of each number of successes."""
    counts = np.arange(trials + 1)
    ways = special.gammaln(trials + 1) - special.gammaln(counts + 1) - special.gammaln(trials - counts + 1)
    return np.exp(ways + special.xlogy(counts, chance) + special.xlog1py(trials - counts, -chance))
