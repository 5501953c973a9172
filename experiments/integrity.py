"""What the parties' guards found of each other, as a run's row tells it: counts, and no row's handle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from parties.spec import PartySpec
from vfl.types import PartyId

_PREFIX = "guard/"


def integrity(specs: Sequence[PartySpec], closing: Mapping[PartyId, Mapping[str, object]]) -> list[dict[str, Any]]:
    """Return one line a guard and sender: rows it saw, rows it flagged, and the step of the first flag, if any.

    `closing` is what each party told at the end. The handles of flagged rows stay in the party's own folder.
    """
    lines: list[dict[str, Any]] = []
    for spec in specs:
        for key, value in closing.get(spec.party, {}).items():
            if not key.startswith(_PREFIX):
                continue
            place, src = key.removeprefix(_PREFIX).split("/", 1)
            if int(place) >= len(spec.defenses):  # an attack that watches what comes back: its party does not tell
                continue
            seen, flagged, first = cast("list[int]", value)
            found = {"rows": seen, "flagged": flagged, "first_step": None if first < 0 else first}
            lines.append({"party": spec.party, "defense": spec.defenses[int(place)]["name"], "sender": src, **found})
    return lines
