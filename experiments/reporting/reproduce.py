"""The configuration of a trial, from its row: as YAML that gives the same run again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from experiments.config import dump_changed, parse
from experiments.reporting.points import missing

PREFIX = "config."


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
