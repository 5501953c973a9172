"""Two reports of the same benchmark beside each other: which figures moved by more than they scatter."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from vfl.errors import DataError

LEAST_CHANGE = 0.05
"""A ratio that moved by less counts as the same, however little it scatters."""
SCATTER = 0.15
"""What a ratio whose turns were not kept is taken to scatter by, either way."""

Verdict = Literal["slower", "faster", "same", "gone", "new"]


@dataclass(frozen=True, slots=True)
class Change:
    """One figure then and now; ratios are against the figure's own reference, so machines may differ."""

    name: str
    old: float | None
    new: float | None
    verdict: Verdict


def compare(old: Path, new: Path) -> list[Change]:
    """Return the change of every figure with a ratio in either report; raises `DataError` for what is no report."""
    before, after = _figures(old), _figures(new)
    return [_change(name, before.get(name), after.get(name)) for name in {**before, **after}]


def _change(name: str, old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> Change:
    if old is None or new is None:
        there = old or new or {}
        found: Verdict = "gone" if new is None else "new"
        return Change(name, *((there["ratio"], None) if new is None else (None, there["ratio"])), found)
    (least_old, most_old), (least_new, most_new) = _ends(old), _ends(new)
    moved = new["ratio"] / old["ratio"] - 1
    verdict: Verdict = "same"
    if moved < -LEAST_CHANGE and most_new < least_old:
        verdict = "slower"
    elif moved > LEAST_CHANGE and least_new > most_old:
        verdict = "faster"
    return Change(name, old["ratio"], new["ratio"], verdict)


def _ends(figure: Mapping[str, Any]) -> tuple[float, float]:
    spread, ratio = figure.get("spread"), figure["ratio"]
    return tuple(spread) if spread else (ratio * (1 - SCATTER), ratio * (1 + SCATTER))


def _figures(path: Path) -> dict[str, Mapping[str, Any]]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["figures"]
        return {each["name"]: each for each in found if each["ratio"] is not None}
    except (OSError, ValueError, KeyError, TypeError) as error:
        message = f"got no benchmark report ({error}); write one with `python -m experiments.bench NAME --json`"
        raise DataError(message, where=str(path)) from None
