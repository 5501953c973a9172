"""Rows of a benchmark that goes on where it stopped: one JSON object a line, a file or a folder of files."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- rows: begin -->", "<!-- rows: end -->"
"""What a page has before and after the lines that are made from rows."""


def read_rows(place: Path) -> list[dict[str, Any]]:
    """Return the rows of a file, or of all `.jsonl` files of a folder; none where there is nothing."""
    paths = sorted(place.glob("*.jsonl")) if place.is_dir() else [place]
    return [json.loads(line) for path in paths if path.exists() for line in path.read_text("utf-8").splitlines()]


def add_row(path: Path, row: Mapping[str, Any]) -> None:
    """Write one row at the end of a file, which is made where it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def stack_name(stack: Sequence[Mapping[str, Any]]) -> str:
    """Return what a stack of defenses is called in a table."""
    told = [" ".join([each["name"], *(f"{k}={v}" for k, v in each.items() if k != "name")]) for each in stack]
    return " + ".join(told) or "none"


def spread(values: Sequence[float], sign: bool = False) -> str:
    """Return the mean with the least and the greatest value."""
    form = "+.3f" if sign else ".3f"
    mean = format(statistics.mean(values), form)
    return mean if len(values) < 2 else f"{mean} [{format(min(values), form)}, {format(max(values), form)}]"


def put(page: Path, lines: Iterable[str]) -> None:
    """Put lines between the marks of a page."""
    head, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, _, tail = rest.partition(END)
    page.write_text("\n".join([head + BEGIN, "", *lines, "", END + tail]), encoding="utf-8")
