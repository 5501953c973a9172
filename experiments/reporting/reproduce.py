"""The configurations of a point's trials, from their rows: as YAML that gives the same runs again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from experiments.config import dump_changed, parse
from experiments.reporting.points import SEED, Point, missing

PREFIX = "config."


@dataclass(frozen=True, slots=True)
class Recipe:
    """A configuration that differs in nothing but the seed between `trials`, as YAML with the first one's seed."""

    yaml: str
    seeds: tuple[int, ...]
    trials: tuple[str, ...]

    @property
    def told(self) -> str:
        """Which seeds and trials it is of."""
        many = "s" if len(self.seeds) > 1 else ""
        return f"seed{many} {', '.join(map(str, self.seeds))}; trials {', '.join(self.trials)}"


def recipes(point: Point) -> list[Recipe]:
    """Return each configuration of a point: trials of one model may differ in attacks, threat model and records."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in point.rows:
        asked = {key: str(value) for key, value in row.items() if key.startswith(PREFIX) and key != SEED}
        groups.setdefault(json.dumps(asked, sort_keys=True), []).append(row)
    return [
        Recipe(
            configuration(rows[0]), tuple(int(row["seed"]) for row in rows), tuple(str(row["trial"]) for row in rows)
        )
        for rows in groups.values()
    ]


def configuration(row: Mapping[str, Any]) -> str:
    """Return the YAML of a row's configuration: what differs from the defaults."""
    values: dict[str, Any] = {}
    for column, value in row.items():
        if column.startswith(PREFIX) and not missing(value):
            *sections, key = column.removeprefix(PREFIX).split(".")
            place = values
            for section in sections:
                place = place.setdefault(section, {})
            place[key] = json.loads(value) if isinstance(value, str) and value.startswith("[") else value
    return dump_changed(parse(values))
