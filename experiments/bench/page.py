"""Throughput figures into the table of a page: rows of what was measured are replaced, all others stay."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.bench.figures import Figure
from vfl.errors import DataError

TARGETS = {
    "throughput/local/W0/256": 0.85,
    "throughput/local/W0/1024": 0.9,
    "throughput/local/W0/4096": 0.9,
    "throughput/ray/W0/256": 0.6,
    "throughput/ray/W0/1024": 0.9,
    "throughput/ray/W0/4096": 1.0,
    "throughput/ray_stale/W0/1024": 1.15,
}
HEAD = "| figure | samples/s |"
MACHINE = "Machine: "


def update(path: Path, figures: Sequence[Figure], machine: Mapping[str, Any]) -> None:
    """Replace the rows of these figures in the page's table and the line that names the machine, with today's date.

    Figures that the table lacks are added at its end. Raises `DataError` for a page without the table.
    """
    lines = path.read_text(encoding="utf-8").splitlines()
    heads = [place for place, line in enumerate(lines) if line.startswith(HEAD)]
    if len(heads) != 1:
        message = f"got {len(heads)} tables that begin with {HEAD!r}, allowed one; name the page of the figures"
        raise DataError(message, where=str(path))
    first = heads[0] + 2
    last = next((place for place in range(first, len(lines)) if not lines[place].startswith("|")), len(lines))
    rows = {line.split("|")[1].strip(): line for line in lines[first:last]}
    rows.update({figure.name: row(figure) for figure in figures})
    lines[first:last] = rows.values()
    told = [_told(machine) if line.startswith(MACHINE) else line for line in lines]
    path.write_text("\n".join(told) + "\n", encoding="utf-8")


def row(figure: Figure) -> str:
    """Return a figure as a row: both rates, the ratio with its ends, and the target with whether it is met."""
    ratio, (least, greatest) = figure.ratio or 0.0, figure.spread or (0.0, 0.0)
    target = TARGETS.get(figure.name)
    met = "" if target is None else f"{target:.2f}" + ("" if ratio >= target else ": **not met**")
    rates = f"{figure.value:,.0f} | {figure.reference or 0.0:,.0f}"
    return f"| {figure.name} | {rates} | {ratio:.3f} [{least:.2f}, {greatest:.2f}] | {met} |"


def _told(machine: Mapping[str, Any]) -> str:
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    what = f"{machine['cpu']}, {machine['cores']} cores, Python {machine['python']}, torch {machine['torch']}"
    return f"{MACHINE}{what}, {today}, seed 0."
