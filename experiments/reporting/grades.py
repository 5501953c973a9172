"""How sure it is that a defense stays within a tolerated loss and that it hides something: firm, likely or open."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from experiments.reporting.compared import Compared
from experiments.reporting.estimate import LEVEL, Estimate, paired

FIRM, LIKELY, OPEN = "firm", "likely", "open"
FIRM_SEEDS = 5
"""Fewer seeds are never called firm: a spread known from a handful of them rests on the normal law alone."""
ALPHA = 1 - LEVEL
ALIKE = 0.02
"""Worst leaks nearer than this, and not told apart, are worth no loss of AUC."""


@dataclass(frozen=True, slots=True)
class Graded:
    """A defense, and how sure its cost and its help are; a grade is empty where the average says no.

    `looks` is how many defenses were looked at: a choice among many is firm where it would hold for each of them.
    """

    of: Compared
    tolerance: float
    looks: int

    @property
    def cost(self) -> str:
        """How sure it is that it costs no more AUC than is tolerated."""
        loss = self.of.loss
        if loss is None or loss.value > self.tolerance:
            return ""
        return sure_that(loss, self.looks, lambda ends: ends[1] <= self.tolerance)

    @property
    def help(self) -> str:
        """How sure it is that the worst leak is smaller than without a defense; open where an attack has no figure."""
        saved = self.of.saved
        if saved is None or saved.value <= 0:
            return ""
        if self.of.unmeasured:
            return OPEN
        return sure_that(saved, self.looks, lambda ends: ends[0] > 0)

    @property
    def sure(self) -> str:
        """The weaker of both; empty where one is."""
        grades = (self.cost, self.help)
        return "" if "" in grades else max(grades, key=(FIRM, LIKELY, OPEN).index)

    @property
    def shown(self) -> bool:
        """Whether seeds show that it hides something, or it did in the one seed that there is."""
        alone = self.of.saved is not None and self.of.saved.n == 1 and not self.of.unmeasured
        return self.help in (FIRM, LIKELY) or (self.help == OPEN and alone)


def sure_that(estimate: Estimate, looks: int, holds: Callable[[tuple[float, float]], bool]) -> str:
    """Return how sure a one-sided statement about an estimate is, which `holds` of the ends of an interval or not."""

    def found(alpha: float) -> bool:
        ends = estimate.bounds(2 * alpha)
        return ends is not None and holds(ends)

    if found(ALPHA / looks) and estimate.n >= FIRM_SEEDS:
        return FIRM
    return LIKELY if found(ALPHA) else OPEN


def choose(graded: Sequence[Graded]) -> Graded | None:
    """Return what to use: of what surely or likely stays within the tolerance and helps, what leaks least.

    Where nothing is sure to stay within it, of what does on average; where nothing is shown to help, what leaks least;
    `None` where all cost too much.
    """
    inside = [each for each in graded if each.cost]
    useful = [each for each in inside if each.shown]
    sure = [each for each in useful if each.cost in (FIRM, LIKELY)]
    among = sure or useful or inside
    return _cheapest_of_the_best(among) if among else None


def _cheapest_of_the_best(among: Sequence[Graded]) -> Graded:
    """Return what leaks least; of those that leak as good as the same, the one that costs least."""
    least = min(among, key=lambda each: leakage(each.of))
    return min((each for each in among if each is least or _alike(each.of, least.of)), key=lambda each: cost(each.of))


def _alike(each: Compared, least: Compared) -> bool:
    """Return whether a point leaks hardly more than another on average, and seeds leave open if it does at all."""
    return undecided(each, least) and leakage(each) - leakage(least) <= ALIKE


def undecided(each: Compared, least: Compared) -> bool:
    """Return whether seeds leave it open which of two leaks less; one seed tells nothing, so it leaves nothing open."""
    difference = paired(each.worst_by_seed, least.worst_by_seed)
    ends = None if difference is None else difference.bounds(ALPHA)
    return ends is not None and ends[0] <= 0


def leakage(each: Compared) -> float:
    """Return the worst leak of a point on average; one that nothing attacked counts as leaking all."""
    return 1.0 if each.worst is None else each.worst.value


def cost(each: Compared) -> float:
    """Return the AUC that a point gives up on average."""
    return 0.0 if each.loss is None else each.loss.value
