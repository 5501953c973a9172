"""What attacks found at a point, beside what needs no wire at all: chance, or the prior alone, whichever is better."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from experiments.reporting.estimate import LEVEL, Estimate, over_seeds
from experiments.reporting.points import Point, known, missing, parsed
from vfl.registry import entries

HEADLINES = ("leak_auc", "nmse", "mae", "accuracy", "auc", "asr", "damage")
NAMES = {
    "leak_auc": "leak AUC",
    "auc": "AUC",
    "accuracy": "accuracy",
    "nmse": "error / variance",
    "mae": "mean error",
    "asr": "success rate",
    "damage": "damage",
}
LESS_IS_WORSE = ("nmse", "mae")
OUTCOMES = ("outcome", "backdoor")
"""Targets of attacks that change what the model answers: they learn nothing, so they leak nothing."""
LEAKS, PERHAPS, HIDDEN, ONE_SEED, UNSURE, NOTHING = (
    "leaks",
    "probably leaks",
    "not told apart from guessing",
    "leaks in this one run",
    "one run, no interval",
    "no figure",
)


@dataclass(frozen=True, slots=True)
class Leak:
    """One attack on one point. `advantage` is 0 where the attack is no better than `floor`, 1 where it knows all.

    `figure` names the headline that `value` is. `floor` is what needs no wire: the better of chance and prior.
    `sign_free` is its twin that no flipped sign deceives, above `sign_free_chance` where something leaks.
    `reading` is how surely it leaks, `hints` how many labelled rows it was told, `does` what it does, in a sentence.
    """

    attack: str
    target: str
    figure: str
    value: Estimate
    floor: float
    chance: float | None
    upper: float | None
    sign_free: Estimate | None
    sign_free_chance: float | None
    advantages: Mapping[int, float]
    advantage: Estimate
    reading: str
    hints: int
    does: str


def attacks_of(points: Sequence[Point]) -> list[str]:
    """Return the names of all attacks on these points, in their order; two grants of one attack are two names."""
    return list(dict.fromkeys(name for point in points for row in point.rows for name in _asked(row).values()))


def leaks_of(point: Point, names: Mapping[str, str] | None = None) -> dict[str, Leak]:
    """Return what each attack found at a point, by its name; attacks without any figure are left out."""
    by_name: dict[str, list[tuple[Mapping[str, Any], str]]] = {}
    for row in point.rows:
        for key, name in _asked(row).items():
            by_name.setdefault((names or {}).get(name, name), []).append((row, f"leakage.{key}"))
    tests = 2 * len(by_name)
    found = {name: _leak(name, entries, tests) for name, entries in by_name.items()}
    return {name: leak for name, leak in found.items() if leak is not None}


def short_names(points: Sequence[Point]) -> dict[str, str]:
    """Return, for each full name of an attack, the shortest that still tells it from the others."""
    names = attacks_of(points)
    keys = [name.partition(" ")[0] for name in names]
    return {name: key if keys.count(key) == 1 else name for name, key in zip(names, keys, strict=True)}


def worst(leaks: Mapping[str, Leak]) -> tuple[Estimate, dict[int, float]] | None:
    """Return the greatest advantage of any attack, seed by seed, and its mean; `None` where nothing attacked.

    Of the seeds that every attack has a figure for: one that failed has not found nothing. The greatest of several
    noisy figures is biased upwards a little: an error on the side of caution.
    """
    learning = [leak for leak in leaks.values() if leak.target not in OUTCOMES]
    shared = set.intersection(*(set(leak.advantages) for leak in learning)) if learning else set()
    by_seed = {seed: max(leak.advantages[seed] for leak in learning) for seed in sorted(shared)}
    if not by_seed:
        return None
    only = max(learning, key=lambda leak: leak.advantage.value)
    ends = only.advantage.interval if len(by_seed) == 1 else None
    found = over_seeds(list(by_seed.values()), ends, only.advantage.over)
    return None if found is None else (found, by_seed)


@cache
def summaries(family: str) -> Mapping[str, str]:
    """Return what each registered member of a family does, in a sentence."""
    return {entry.name: entry.summary for entry in entries(family)}


def _member(row: Mapping[str, Any], key: str) -> str:
    """Return the registered name of the attack that has this key in a row."""
    specs = parsed(row.get("config.attack")) or ()
    names = {str(spec.get("as") or spec["name"]): str(spec["name"]) for spec in specs}
    return names.get(key, key.removesuffix(" (later)"))


def _asked(row: Mapping[str, Any]) -> dict[str, str]:
    """Return, by the key of an attack in the row, its name with its options and what it was granted beyond them."""
    specs = {str(spec.get("as") or spec["name"]): spec for spec in parsed(row.get("config.attack")) or ()}
    found: dict[str, str] = {}
    for column in row:
        if column.startswith("leakage.") and column.endswith(".target") and not missing(row[column]):
            key = column.removeprefix("leakage.").removesuffix(".target")
            options = {name: value for name, value in specs.get(key, {}).items() if name not in ("name", "as")}
            words = [
                f"{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in options.items()
            ]
            looking = parsed(row.get(f"leakage.{key}.adversaries")) or ()
            found[key] = " ".join([key, *words, f"by {'+'.join(looking)}" if looking else ""]).strip()
    return found


def _leak(name: str, entries: Sequence[tuple[Mapping[str, Any], str]], tests: int) -> Leak | None:
    figure = next((each for each in HEADLINES if any(known(row.get(f"{at}.{each}")) for row, at in entries)), None)
    if figure is None:
        return None
    row, at = entries[0]
    values = _by_seed(entries, figure)
    ends = parsed(row.get(f"{at}.ci")) if len(values) == 1 else None
    value = over_seeds(list(values.values()), ends, str(row.get(f"{at}.ci_over") or "rows"))
    if value is None:
        return None
    floor = _floor(entries, figure)
    free, free_chance = _by_seed(entries, "sign_free"), _mean(entries, "chance.sign_free")
    free_estimate = over_seeds(list(free.values()))
    advantages = {seed: _advantage(figure, found, floor, free.get(seed), free_chance) for seed, found in values.items()}
    advantage = over_seeds(list(advantages.values()), _ends(figure, value, floor), value.over)
    reading = _reading(figure, value, floor, (free_estimate, free_chance), tests)
    return Leak(
        attack=name,
        target=str(row[f"{at}.target"]),
        figure=figure,
        value=value,
        floor=floor,
        chance=_mean(entries, f"chance.{figure}"),
        upper=_mean(entries, "upper"),
        sign_free=free_estimate,
        sign_free_chance=free_chance,
        advantages=advantages,
        advantage=advantage or Estimate(0.0),
        reading=reading,
        hints=int(row.get(f"{at}.labelled_rows") or 0),
        does=summaries("attack").get(_member(row, at.removeprefix("leakage.")), ""),
    )


def _by_seed(entries: Sequence[tuple[Mapping[str, Any], str]], figure: str) -> dict[int, float]:
    found: dict[int, float] = {}
    for row, at in entries:
        value = row.get(f"{at}.{figure}")
        if known(value):
            found.setdefault(int(row["seed"]), float(value))
    return found


def _mean(entries: Sequence[tuple[Mapping[str, Any], str]], figure: str) -> float | None:
    found = over_seeds(list(_by_seed(entries, figure).values()))
    return None if found is None else found.value


def _floor(entries: Sequence[tuple[Mapping[str, Any], str]], figure: str) -> float:
    levels = [_mean(entries, f"chance.{figure}"), _mean(entries, "prior_only")]
    told = [level for level in levels if level is not None]
    if not told:
        return 0.5 if figure in ("leak_auc", "auc") else 0.0
    return min(told) if figure in LESS_IS_WORSE else max(told)


def _advantage(figure: str, value: float, floor: float, free: float | None, free_chance: float | None) -> float:
    """Return how much of the way from the floor to knowing everything an attack came, from 0 to 1."""
    if figure in LESS_IS_WORSE:
        found = (floor - value) / floor if floor > 0 else 0.0
    else:
        beyond = abs(value - floor) if figure == "leak_auc" else value - floor
        found = beyond / (1 - floor) if floor < 1 else 0.0
    if free is not None and free_chance is not None and free_chance < 1:
        found = max(found, (free - free_chance) / (1 - free_chance))
    return min(max(found, 0.0), 1.0)


def _ends(figure: str, value: Estimate, floor: float) -> tuple[float, float] | None:
    """Return the interval of the advantage of one run, from that of its figure."""
    if value.interval is None:
        return None
    ends = [_advantage(figure, end, floor, None, None) for end in value.interval]
    inside = value.interval[0] <= floor <= value.interval[1]
    return (0.0 if inside else min(ends), max(ends))


def _reading(figure: str, value: Estimate, floor: float, free: tuple[Estimate | None, float | None], tests: int) -> str:
    """Return how surely an attack beats guessing: at 95 % with all looks at this point counted, this one, or not."""
    if value.n == 1:
        if value.interval is None:
            return UNSURE
        return ONE_SEED if _beyond(figure, value.interval, floor) else HIDDEN
    for alpha, told in (((1 - LEVEL) / tests, LEAKS), (1 - LEVEL, PERHAPS)):
        twin = free[0].bounds(alpha) if free[0] is not None else None
        flipped = twin is not None and free[1] is not None and twin[0] > free[1]
        if flipped or _beyond(figure, value.bounds(alpha), floor):
            return told
    return HIDDEN


def _beyond(figure: str, ends: tuple[float, float] | None, floor: float) -> bool:
    if ends is None:
        return False
    if figure in LESS_IS_WORSE:
        return ends[1] < floor
    return ends[0] > floor or (figure == "leak_auc" and ends[1] < floor)
