"""What the rows of the defense sweep say in words: sentences made from them, so that none outlives its figures."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from experiments.bench.defense_report import Group

NEAR = 0.05
"""How far above chance a greatest sign-free leak may be to be called near it."""
ALL, MUCH = 0.99, 0.2
"""From where on a leak is called complete; and how far above chance one is that a signed average near a half hides."""


def findings(title: str, made: Sequence[Group]) -> Iterator[str]:
    """Yield the sentences of one data set and top: what is near chance, what hides nothing, what would be flattered."""
    bare = {row["seed"]: row["test"]["auc"] for group in made if not group.stack for row in group.rows}
    defended = [group for group in made if group.stack]
    near = [_at_cost(group, bare) for group in defended if _leak(group) <= _chance(group) + NEAR]
    none = [f"{group.name}{_seeds(group)}" for group in defended if _leak(group) >= ALL]
    yield f"- **{title}**, {len(defended)} stacks."
    yield f"  Within {NEAR} of chance: {'; '.join(near) or 'none'}."
    yield f"  Greatest leak {ALL} or more, so nothing is hidden: {'; '.join(none) or 'none'}."
    yield f"  {_flattered(defended)}"


def mixpro_findings(title: str, made: Sequence[Group]) -> Iterator[str]:
    """Yield what becomes of the claim that MixPro hides labels, at one data set and top, reading by reading."""
    for group in made:
        if not group.stack or group.stack[0]["name"] != "mixpro" or len(group.stack) > 1:
            continue
        worst, leaks = group.worst
        kept, free = (statistics.mean(group.leak("norm", name)) for name in ("leak_auc", "sign_free"))
        chance = group.chance("norm")
        above = statistics.mean(leaks) - group.chance(worst)
        verdict = (
            "**the claim does not hold**" if above > MUCH else "the claim holds" if above <= NEAR else "in between"
        )
        yield (
            f"- {title}, {group.name}{_seeds(group)}: by norm {kept:.3f} with its sign and {free:.3f} without, "
            f"by chance {chance:.3f}; greatest of all attacks {statistics.mean(leaks):.3f} by {worst}: {verdict}."
        )


def _flattered(made: Sequence[Group]) -> str:
    """Return who looks safe by the signed average of the norm attack, a tenth around a half, and is not."""
    told = [
        f"{group.name} ({statistics.mean(signed):.2f}, {_leak(group):.2f})"
        for group in made
        if (signed := group.leak("norm", "leak_auc"))
        and abs(statistics.mean(signed) - 0.5) <= 0.1
        and _leak(group) > _chance(group) + MUCH
    ]
    return (
        f"Near a half by the norm attack with its sign, far above chance by the greatest: {'; '.join(told) or 'none'}."
    )


def _at_cost(group: Group, bare: dict[int, float]) -> str:
    lost = [bare[row["seed"]] - row["test"]["auc"] for row in group.rows if row["seed"] in bare]
    cost = f", {statistics.mean(lost):+.3f} of AUC lost" if lost else ""
    told = group.leak("likelihood_ratio", "upper")
    known = f", {statistics.mean(told):.3f} if all labels were known" if told else ""
    return f"{group.name} ({_leak(group):.3f}, chance {_chance(group):.3f}{known}{cost}){_seeds(group)}"


def _leak(group: Group) -> float:
    return statistics.mean(group.worst[1])


def _chance(group: Group) -> float:
    return group.chance(group.worst[0])


def _seeds(group: Group) -> str:
    return " [one seed]" if len(group.rows) == 1 else ""
