"""The ledger of a run: what each party's defenses guarantee, for whom, at which epsilon. Nothing else has an epsilon.

A defense that guarantees something says what it spends over a plan; spends on one unit add up. What a party guarantees
holds for its own unit only, and under the words of the unit: "given the top's weights" is not "whatever happens".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from vfl.privacy import gaussian
from vfl.types import Kind

DELTA = 1e-5
"""The delta of a run's own ledger; `vfl account --delta` computes others."""


_VOID = ", so its epsilon would be void"


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run will do with a row: `epochs` passes of training, and to how many parties each message goes.

    `receivers` counts the parties that get a message about the same row and may compare notes.
    """

    epochs: int
    receivers: int


@dataclass(frozen=True, slots=True)
class Spend:
    """What a defense spends of one unit over a plan: a `pure` epsilon, and the `mu` of Gaussian releases.

    Neighbours differ in one unit, which is replaced.
    """

    unit: str
    purpose: str
    pure: float = 0.0
    mu: float = 0.0


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a ledger, as it stands in a run's row; `delta` is 0 where the guarantee is pure."""

    party: str
    unit: str
    purpose: str
    epsilon: float
    delta: float
    accountant: str


@runtime_checkable
class Accounted(Protocol):
    """A defense with a guarantee: it says what a plan spends of it."""

    def ledger(self, plan: Plan) -> tuple[Spend, ...]:
        """Return what the plan spends."""
        ...


@runtime_checkable
class Coupling(Protocol):
    """A defense that lets one row of a batch change what is sent about another: batch statistics, mixing, sorting."""

    @property
    def couples_rows(self) -> bool:
        """Whether it does."""
        ...


@runtime_checkable
class ByClass(Protocol):
    """What a defense has whose noise follows from what a message would be for each class."""

    @property
    def by_class(self) -> bool:
        """Whether it does."""
        ...


@runtime_checkable
class LabelReading(Protocol):
    """A defense that looks at labels when it acts, so that it is no mere processing of what came before it."""

    @property
    def reads_labels(self) -> bool:
        """Whether it does."""
        ...


def compose(party: str, spends: Iterable[Spend], delta: float = DELTA) -> list[Entry]:
    """Return one line for each unit: pure parts add up, Gaussian parts compose exactly, and both add up."""
    units: dict[str, list[Spend]] = {}
    for spend in spends:
        units.setdefault(spend.unit, []).append(spend)
    return [_entry(party, unit, parts, delta) for unit, parts in units.items()]


def void(defenses: Sequence[object]) -> list[tuple[int, str]]:
    """Return the places of defenses whose guarantee the rest of the stack voids, each with the reason.

    A guarantee for one row's release needs what is released to depend on that row alone until it is noised: a defense
    before it that couples rows voids it, and so do a penalty on coupled rows anywhere in the stack, another defense
    inside the network beside one that is there, and one that reads the clean label after it. Noise that is sized by
    what a message would be for each class, and lies along their difference, needs the message as the loss made it:
    whatever changes gradients before it voids it, and so does a changed top, which may draw anew for each class. A
    defense that makes labels private at their source covers everything that is made of them later, so only what makes
    a label out of several rows' before it, without a guarantee of its own, voids that.
    """
    found: list[tuple[int, str]] = []
    for place, defense in enumerate(defenses):
        if not isinstance(defense, Accounted):
            continue
        if hasattr(defense, "transform"):
            mixed = [each for each in defenses[:place] if _mixes_labels(each)]
            found += [
                (place, f"{_name(each)} before it makes a label of several rows' labels{_VOID}") for each in mixed[:1]
            ]
            continue
        made = [each for each in defenses[place:] if hasattr(each, "transform")]  # labels are made before all else
        before = [each for each in (*defenses[:place], *made) if isinstance(each, Coupling) and each.couples_rows]
        penalties = [each for each in defenses if hasattr(each, "penalty") and isinstance(each, Coupling)]
        after = [each for each in defenses[place + 1 :] if isinstance(each, LabelReading) and each.reads_labels]
        reasons = [(each, "lets rows of a batch change each other before the noise") for each in (*before, *penalties)]
        reasons += [(each, "reads the label again after the noise") for each in after]
        wraps = [
            each for each in defenses if hasattr(each, "wrap") and hasattr(defense, "wrap") and each is not defense
        ]
        reasons += [(each, "adds a loss or weights that are not clipped") for each in wraps]
        if isinstance(defense, ByClass) and defense.by_class:
            reasons += [(each, "changes what the noise is sized by") for each in defenses[:place] if _changes(each)]
            reasons += [(each, "changes the top between a message and its classes") for each in defenses if _tops(each)]
        if reasons:
            culprit, reason = reasons[0]
            found.append((place, f"{_name(culprit)} beside it {reason}{_VOID}"))
    return found


def _changes(defense: object) -> bool:
    """Return whether a defense changes gradients that are sent."""
    return hasattr(defense, "apply") and Kind.GRADIENT in getattr(defense, "kinds", ())


def _tops(defense: object) -> bool:
    """Return whether a defense is a part of the top network."""
    return hasattr(defense, "wrap") and getattr(defense, "at", "bottom") == "top"


def _mixes_labels(defense: object) -> bool:
    """Return whether a defense makes each label out of several rows' labels, and says of none what that spends."""
    couples = isinstance(defense, Coupling) and defense.couples_rows
    return couples and hasattr(defense, "transform") and not isinstance(defense, Accounted)


def spends(defenses: Iterable[object], plan: Plan) -> list[Spend]:
    """Return what a stack spends over a plan, in its order."""
    return [spend for defense in defenses if isinstance(defense, Accounted) for spend in defense.ledger(plan)]


def _entry(party: str, unit: str, parts: Sequence[Spend], delta: float) -> Entry:
    pure, mu = sum(part.pure for part in parts), gaussian.composed(part.mu for part in parts)
    purpose = " and ".join(dict.fromkeys(part.purpose for part in parts))
    if not mu:
        return Entry(party, unit, purpose, pure, 0.0, "pure DP, basic composition")
    accountant = "Gaussian, exact (Balle and Wang 2018)" + (" plus pure DP" if pure else "")
    return Entry(party, unit, purpose, pure + gaussian.epsilon(mu, delta), delta, accountant)


def _name(defense: object) -> str:
    return type(defense).__module__.rpartition(".")[2]
