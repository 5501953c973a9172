"""The row of a run for a person: what the partner's data adds first, then what it costs in privacy, bytes and time."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping
from typing import Any, cast

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from experiments.progress import duration

Row = Mapping[str, Any]

METRICS = {
    "auc": ("AUC", "high"),
    "pr_auc": ("PR AUC", "high"),
    "log_loss": ("log loss", "low"),
    "ne": ("normalised entropy", "low"),
    "ece": ("calibration error", "low"),
    "calibration_ratio": ("predicted / actual", "near 1"),
    "accuracy": ("accuracy", "high"),
}
"""By key of the row: what a person calls it, and which values are better."""

KINDS = {"psi": "alignment"}
"""Kinds of envelopes whose name says less than a reader takes from it: plain alignment is sent as one too."""

FIGURES = {
    "damage": ("damage", True),
    "asr": ("success rate", True),
    "leak_auc": ("leak AUC", True),
    "sign_free": ("sign-free", True),
    "abs_q95": ("abs q95", True),
    "accuracy": ("accuracy", True),
    "auc": ("AUC", True),
    "mae": ("mean error", False),
    "nmse": ("MSE / variance", False),
    "mse": ("mse", False),
}
"""By key of a leakage entry: what a person calls it, and whether more of it is more leakage."""

REFERENCES = {"advertiser_alone": "alone", "central": "central", "honest": "untampered"}
ABSENT = "-"


def show(row: Row, console: Console, later: Mapping[str, Row] | None = None) -> None:
    """Print a row; `later` holds the leakage that attacks after the run found."""
    console.print(page(row, later), highlight=False)


def render(row: Row, width: int = 80, later: Mapping[str, Row] | None = None) -> str:
    """Return what `show` prints at a width, without colour."""
    stream = io.StringIO()
    show(row, Console(file=stream, width=width, color_system=None), later)
    return "".join(line.rstrip() + "\n" for line in stream.getvalue().splitlines())


def page(row: Row, later: Mapping[str, Row] | None = None) -> Group:
    """Return all sections of a row, those that it has figures for."""
    leakage = {**_part(row, "leakage"), **{f"{name} (later)": entry for name, entry in (later or {}).items()}}
    sections = [
        *_section(f"What the partner's data adds - {_about(row)}", _gain(_part(row, "gain"))),
        *_section(
            "Utility on test rows - beside the advertiser alone and all data in one place",
            _utility(_part(row, "utility")),
        ),
        *leakage_section(leakage),
        *_section("Privacy spent", _ledger(_part(row, "privacy"))),
        *_section("Integrity: rows that a party's own guards flagged", _integrity(row.get("integrity"))),
        *_section("Cost", _cost(_part(row, "cost"))),
        *_section("Notes", _notes(row)),
        *_section("This run", _identity(row)),
        *_section("Next", _next(row)),
    ]
    return Group(*sections)


def leakage_section(leakage: Mapping[str, Row]) -> list[RenderableType]:
    """Return a leakage table for each thing that was attacked, nothing where nothing was."""
    targets = dict.fromkeys(entry.get("target") or "labels" for entry in leakage.values())
    return [
        each
        for target in targets
        for each in _section(
            f"Leakage: what the adversary learns of the {target}",
            _leakage({name: entry for name, entry in leakage.items() if (entry.get("target") or "labels") == target}),
        )
    ]


def number(value: object, digits: int = 4, sign: bool = False) -> str:
    """Return a figure with fixed digits, `-` where it does not exist."""
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not math.isfinite(value):
        return ABSENT
    return f"{value:{'+' if sign else ''}.{digits}f}"


def interval(ends: object, digits: int = 4, sign: bool = False) -> str:
    """Return `low to high`, `-` where there is no interval."""
    if not isinstance(ends, (list, tuple)) or len(ends) != 2:
        return ABSENT
    return " to ".join(number(end, digits, sign) for end in ends)


def size(count: float) -> str:
    """Return a number of bytes as a person says it: `812 B`, `12.3 MB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def _section(title: str, body: RenderableType | None) -> list[RenderableType]:
    return [] if body is None else [Text(title, style="bold"), Padding(body, (0, 0, 1, 2), expand=False)]


def _part(row: Row, key: str) -> Mapping[str, Any]:
    return row.get(key) or {}


def _table(*columns: str) -> Table:
    """Return an open table: text on the left in the first and last column where it reads, figures on the right."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for place, column in enumerate(columns):
        left = place == 0 or column in ("", "reading", "figure")
        table.add_column(column, justify="left" if left else "right", overflow="fold")
    return table


def _about(row: Row) -> str:
    data = _part(row, "data")
    words = [str(data.get("name", "unknown data"))]
    if data.get("synthetic"):
        words.append("SYNTHETIC DATA")
    if isinstance(data.get("rows"), int):
        words.append(f"{data['rows']:,} rows")
    aligned = _part(row, "alignment").get("aligned")
    if isinstance(aligned, int):
        words.append(f"{aligned:,} aligned")
    return ", ".join(words)


def _gain(gain: Mapping[str, Any]) -> RenderableType:
    table = _table("", "gain", "95 % interval", "p", "reading")
    found = False
    for key in ("auc", "log_loss"):
        figures = _part(gain, key)
        if number(figures.get("value")) != ABSENT:
            found = True
            style, reading = _told_apart(figures.get("ci"))
            value = Text(number(figures["value"], sign=True), style=style)
            name = METRICS[key][0] + (" (reduction)" if METRICS[key][1] == "low" else "")
            table.add_row(name, value, interval(figures.get("ci"), sign=True), _p(figures.get("p")), reading)
    for party, figures in _part(gain, "per_publisher").items():
        added = number(_part({"": figures}, "").get("auc"), sign=True)
        if added != ABSENT:
            table.add_row(f"AUC, {party}'s part", added, "", "", "")
    if not found:
        return Text("not known: no reference run of the advertiser alone (references: [advertiser_alone])")
    return table


def _told_apart(ends: object) -> tuple[str, str]:
    """Return the style and the reading of a gain: whether its interval leaves out zero, and on which side."""
    if not isinstance(ends, (list, tuple)) or None in ends:
        return "", ""
    if ends[0] > 0:
        return "bold green", "better"
    return ("bold red", "worse") if ends[1] < 0 else ("bold yellow", "no clear difference")


def _p(value: object) -> str:
    if isinstance(value, float) and value < 0.001:
        return "< 0.001"
    return number(value, 3)


def _utility(utility: Mapping[str, Any]) -> RenderableType | None:
    test = _part(utility, "test")
    if not test:
        return None
    references = [key for key in REFERENCES if _part(utility, key)]
    table = _table("", "with partner", "95 % interval", *(REFERENCES[key] for key in references), "better")
    for key, (name, better) in METRICS.items():
        if any(number(_part(utility, part).get(key)) != ABSENT for part in ("test", *references)):
            others = [number(_part(utility, part).get(key)) for part in references]
            ends = interval(_part(test, "ci").get(key))
            table.add_row(name, Text(number(test.get(key)), style="bold"), ends, *others, better)
    return table


def _leakage(leakage: Mapping[str, Row]) -> RenderableType | None:
    if not leakage:
        return None
    table = _table("", "figure", "value", "95 % interval", "chance", "prior", "upper", "reading")
    for name, entry in leakage.items():
        shown = False
        for line in _figures(entry):
            table.add_row("" if shown else name, *line)
            shown = True
        if not shown:
            table.add_row(name, "", *[ABSENT] * 5, "see notes")
    return table


def _figures(entry: Row) -> Iterator[tuple[RenderableType, ...]]:
    """Yield the lines of one attack; interval, prior and upper bound belong to the first."""
    first = True
    for key, (name, more_is_worse) in FIGURES.items():
        if number(entry.get(key)) == ABSENT:
            continue
        chance = entry.get("chance")
        level = chance.get(key) if isinstance(chance, Mapping) else chance if first else None
        if not first:
            yield name, number(entry[key], 3), "", number(level, 3), "", "", ""
            continue
        first = False
        reading = _above(entry.get("ci"), level) if more_is_worse else ""
        style = "bold red" if reading == "leaks" else "bold"
        bounds = number(entry.get("prior_only"), 3), number(entry.get("upper"), 3)
        value = Text(number(entry[key], 3), style=style)
        yield name, value, interval(entry.get("ci"), 3), number(level, 3), *bounds, reading


def _above(ends: object, chance: object) -> str:
    if not isinstance(ends, (list, tuple)) or None in ends or not isinstance(chance, (int, float)):
        return ""
    return "leaks" if ends[0] > chance else "inverted" if ends[1] < chance else "at chance"


def _ledger(privacy: Mapping[str, Any]) -> RenderableType | None:
    entries = [*(privacy.get("ledger") or []), *(privacy.get("uncovered") or [])]
    if not entries:
        return None
    table = _table("", "unit", "purpose", "epsilon", "delta", "accountant")
    for entry in entries:
        delta = entry.get("delta")
        spent = f"{delta:.1e}" if isinstance(delta, float) else ABSENT if delta is None else str(delta)
        words = [str(entry.get(key, ABSENT)) for key in ("party", "unit", "purpose")]
        table.add_row(*words, number(entry.get("epsilon"), 3), spent, str(entry.get("accountant", ABSENT)))
    return table


def _integrity(lines: object) -> RenderableType | None:
    if not isinstance(lines, list) or not lines:
        return None
    table = _table("", "guard", "sender", "rows", "flagged", "first step")
    for line in cast("list[Row]", lines):
        counts = [f"{line[key]:,}" if isinstance(line.get(key), int) else ABSENT for key in ("rows", "flagged")]
        first = line.get("first_step")
        words = [str(line.get(key, ABSENT)) for key in ("party", "defense", "sender")]
        table.add_row(*words, *counts, ABSENT if first is None else str(first))
    return table


def _cost(cost: Mapping[str, Any]) -> RenderableType | None:
    if not cost:
        return None
    table = Table.grid(padding=(0, 2, 0, 0))
    sent = {kind: count for kind, count in _part(cost, "bytes").items() if isinstance(count, (int, float))}
    if sent:
        kinds = ", ".join(f"{KINDS.get(kind, kind)} {size(count)}" for kind, count in sent.items())
        table.add_row("sent", f"{size(sum(sent.values()))}: {kinds}")
    timed = [
        f"{word} {duration(cost[key])}"
        for key, word in (("wall_s", "training"), ("total_s", "in all"))
        if cost.get(key)
    ]
    steps, path = cost.get("steps"), cost.get("path")
    counted = [f"{steps:,} rounds" + (f" by {path}" if path else "")] if isinstance(steps, int) else []
    if timed or counted:
        table.add_row("time", ", ".join([*timed, *counted]))
    peaks = [f"{party} {peak:,.0f} MB" for party, peak in _part(cost, "peak_rss_mb").items() if peak is not None]
    if peaks:
        table.add_row("memory", ", ".join(peaks))
    return table


def _notes(row: Row) -> RenderableType | None:
    notes = row.get("notes") or []
    return Group(*(_bullet(note) for note in notes)) if notes else None


def _bullet(note: object) -> RenderableType:
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_row("-", Text(str(note)))
    return grid


def _identity(row: Row) -> RenderableType | None:
    known = {
        "out": row.get("out"),
        "run id": row.get("run_id"),
        "digest": str(row.get("digest") or "")[:16],
        "seed": row.get("seed"),
        "backend": row.get("backend"),
        "method": _part(row, "method").get("name"),
    }
    grid = Table.grid(padding=(0, 2, 0, 0))
    for name, value in known.items():
        if value not in (None, ""):
            grid.add_row(name, Text(str(value), overflow="fold"))
    return grid if grid.row_count else None


def _next(row: Row) -> RenderableType | None:
    out = row.get("out")
    if not out:
        return None
    hints = (
        ("defend it", "vfl list defense, then vfl simulate --set defense.0.name=NAME"),
        ("attack it", f"vfl attack {out} --attack NAME"),
        ("pass it on", f"vfl show {out} --shareable OUT"),
    )
    grid = Table.grid(padding=(0, 2, 0, 0))
    for name, command in hints:
        grid.add_row(name, Text(command, overflow="fold"))
    return grid
