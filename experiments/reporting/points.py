"""Rows of trials -> points: what was asked, apart from the seed, with one value a seed for every figure."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from experiments.reporting.estimate import Estimate, over_seeds

SEED = "config.seed"
DEFENSE, METHOD = "config.defense", "config.method."
NOT_THE_MODEL = ("config.attack", "config.threat.", "config.record.", "config.references")
"""Columns that change what is learned about a model, never the model: trials that differ in them are one point."""

ACTIVE = "active attack"
"""Column that says what an attack did to the model by tampering: such a model is another one."""

NO_DEFENSE = "no defense"
SHORT = {"align.overlap": "overlap", "split.parties": "parties", "data.name": "data"}


@dataclass(frozen=True)
class Point:
    """One configuration, whatever its seed: the trials that ran it, and what it is called.

    `label` names it within its `scene`, the setting that it shares with the points it is compared with; `family` is
    the label without its strengths. `where` holds the scene's keys and values.
    """

    key: str
    label: str
    family: str
    scene: str
    where: Mapping[str, Any]
    rows: tuple[Mapping[str, Any], ...] = field(repr=False)

    @cached_property
    def seeds(self) -> tuple[int, ...]:
        """The seeds it was run with, each once."""
        return tuple(sorted({int(row["seed"]) for row in self.rows}))

    @property
    def undefended(self) -> bool:
        """Whether its configuration has no defense."""
        return self.rows[0][DEFENSE] == "[]"

    def by_seed(self, column: str) -> dict[int, float]:
        """Return a column's value by seed, where it has one; of two trials of one seed the first counts."""
        found: dict[int, float] = {}
        for row in self.rows:
            value = row.get(column)
            if known(value):
                found.setdefault(int(row["seed"]), float(value))
        return found

    def estimate(self, column: str, interval: str = "", over: str = "rows") -> Estimate | None:
        """Return a column's mean over seeds; of one seed with the interval in the column `interval`, if it has one."""
        values = self.by_seed(column)
        ends = parsed(self.rows[0].get(interval)) if len(values) == 1 and interval else None
        of_test_rows = column.startswith(("utility.", "gain."))
        return over_seeds(list(values.values()), ends, over, self.shared if of_test_rows else 0.0)

    @property
    def shared(self) -> float:
        """Test rows over training rows where every seed draws both anew from one table, else 0."""
        test, valid = self.first("config.holdout.test"), self.first("config.holdout.valid")
        if self.first("config.holdout.by") != "random" or not (known(test) and known(valid)):
            return 0.0
        return float(test) / (1.0 - float(test) - float(valid))

    def first(self, column: str) -> Any:  # noqa: ANN401 - a row's value
        """Return a column's value in the first trial that has one, else `None`."""
        return next((row[column] for row in self.rows if not missing(row.get(column))), None)


@dataclass(frozen=True, slots=True)
class Study:
    """All points of a report. `lever` says what is compared: `defense`, `method`, or `setting`; `failed` are rows."""

    points: tuple[Point, ...]
    lever: str
    failed: tuple[Mapping[str, Any], ...]

    @property
    def scenes(self) -> list[str]:
        """The settings that points are compared within, in the order of the points."""
        return list(dict.fromkeys(point.scene for point in self.points))

    def within(self, scene: str) -> list[Point]:
        """Return the points of a scene."""
        return [point for point in self.points if point.scene == scene]

    def baseline(self, scene: str) -> Point | None:
        """Return the scene's point without a defense, or of the method `vanilla` where methods are compared."""
        told = "vanilla" if self.lever == "method" else NO_DEFENSE
        return next((point for point in self.within(scene) if point.label == told), None)


def missing(value: object) -> bool:
    """Return whether a row has no such value."""
    return value is None or (isinstance(value, float) and value != value)


def known(value: object) -> bool:
    """Return whether a value is a finite number."""
    return not missing(value) and isinstance(value, int | float) and abs(float(value)) != float("inf")


def parsed(value: object) -> Any:  # noqa: ANN401 - any JSON
    """Return what a row keeps as JSON text; `None` where it is missing."""
    return None if missing(value) else json.loads(str(value))


def study(rows: Sequence[Mapping[str, Any]]) -> Study:
    """Return the points of the rows of `experiments.results.rows`, scene by scene, the baseline first."""
    done = [_with_tampering(row) for row in rows if row["status"] == "ok"]
    failed = tuple(row for row in rows if row["status"] != "ok")
    varied = _varied(done)
    lever = _lever(varied)
    own = [name for name in varied if _belongs(name, lever)]
    rest = [name for name in varied if name not in own]
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in done:
        groups.setdefault(_identity(row, varied), []).append(row)
    labels = _labels(list(groups.values()), lever, own)
    points = [
        Point("", *label, _scene(group[0], rest), _where(group[0], rest), tuple(group))
        for label, group in zip(labels, groups.values(), strict=True)
    ]
    ordered = sorted(points, key=_order)
    named = [
        Point(f"P{place}", point.label, point.family, point.scene, point.where, point.rows)
        for place, point in enumerate(ordered, start=1)
    ]
    return Study(tuple(named), lever, failed)


def _with_tampering(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the row with the attacks of it that tampered with the run, where there are any."""
    specs = {str(spec.get("as") or spec["name"]): spec for spec in parsed(row.get("config.attack")) or ()}
    active = [
        _stack(json.dumps([{name: value for name, value in spec.items() if name != "as"}]))[0]
        for key, spec in specs.items()
        if row.get(f"leakage.{key}.active")
    ]
    return {**row, ACTIVE: " + ".join(active)} if active else row


def _varied(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    columns = dict.fromkeys(name for row in rows for name in row)
    asked = [name for name in columns if name == ACTIVE or (name.startswith("config.") and name != SEED)]
    asked = [name for name in asked if not name.startswith(NOT_THE_MODEL)]
    return [name for name in asked if len({_text(row.get(name)) for row in rows}) > 1]


def _lever(varied: Sequence[str]) -> str:
    if DEFENSE in varied:
        return "defense"
    return "method" if any(name.startswith(METHOD) for name in varied) else "setting"


def _belongs(name: str, lever: str) -> bool:
    return {"defense": name == DEFENSE, "method": name.startswith(METHOD)}.get(lever, False)


def _identity(row: Mapping[str, Any], varied: Sequence[str]) -> str:
    return json.dumps([_text(row.get(name)) for name in varied])


def _text(value: object) -> str:
    return "" if missing(value) else str(value)


def _labels(groups: Sequence[Sequence[Mapping[str, Any]]], lever: str, own: Sequence[str]) -> list[tuple[str, str]]:
    if lever != "method":
        return [_stack(str(group[0][DEFENSE])) for group in groups]
    options = [{name: group[0].get(name) for name in own if not missing(group[0].get(name))} for group in groups]
    names = [str(group[0]["config.method.name"]) for group in groups]
    told: list[tuple[str, str]] = []
    for name, found in zip(names, options, strict=True):
        twins = [other for other, also in zip(options, names, strict=True) if also == name]
        moving = [key for key in found if len({_text(twin.get(key)) for twin in twins}) > 1]
        words = [f"{key.removeprefix(METHOD)}={_plain(found[key])}" for key in moving]
        told.append((" ".join([name, *words]), name))
    return told


def _stack(text: str) -> tuple[str, str]:
    """Return the label and the family of a stack of defenses: all its options, and those that are no strength."""
    labels, families = [], []
    for spec in json.loads(text):
        options = {
            key: value for key, value in spec.items() if key not in ("name", "party") or (key == "party" and value)
        }
        options.pop("name", None)
        labels.append(" ".join([spec["name"], *(f"{key}={_plain(value)}" for key, value in options.items())]))
        words = {key: value for key, value in options.items() if isinstance(value, str)}
        families.append(" ".join([spec["name"], *(f"{key}={value}" for key, value in words.items())]))
    return (" + ".join(labels), " + ".join(families)) if labels else (NO_DEFENSE, NO_DEFENSE)


def _plain(value: object) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return json.dumps(value) if isinstance(value, dict | list) else str(value)


def _scene(row: Mapping[str, Any], names: Sequence[str]) -> str:
    return ", ".join(f"{key} {_plain(value)}" for key, value in _where(row, names).items())


def _where(row: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Return the scene's keys and values; a name stands for its section, as it does in YAML."""
    found: dict[str, Any] = {}
    for name in names:
        if not missing(row.get(name)):
            key = name.removeprefix("config.")
            found[SHORT.get(key, key.removesuffix(".name"))] = row[name]
    return found


def _order(point: Point) -> tuple[Any, ...]:
    """Scenes in the order of their numbers, the undefended point first, then families with rising strengths."""
    where = [(0, value, "") if known(value) else (1, 0, str(value)) for value in point.where.values()]
    numbers = [float(word.partition("=")[2]) for word in point.label.split() if _is_number(word.partition("=")[2])]
    return (where, point.label not in (NO_DEFENSE, "vanilla"), point.family, numbers, point.label)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def spans(points: Sequence[Point]) -> list[str]:
    """Return the scene's keys that are numbers and take two values or more: what a curve can be drawn over."""
    seen: dict[str, set[float]] = {}
    counts: Counter[str] = Counter()
    for point in points:
        for key, value in point.where.items():
            if known(value) and not isinstance(value, bool):
                seen.setdefault(key, set()).add(float(value))
                counts[key] += 1
    return [key for key, values in seen.items() if len(values) > 1 and counts[key] == len(points)]
