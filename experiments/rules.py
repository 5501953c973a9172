"""What pydantic cannot say of a value by its type: pure checks of single values and of a split."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches

from pydantic_core import PydanticCustomError

from experiments.problems import refusal

ADVERTISER = "advertiser"
PUBLISHER = "publisher"
RESERVED = ("referee", "coordinator", "shared")
"""Names that no party may have: the simulation uses them itself."""


def refuse(found: Sequence[tuple[str, str]]) -> None:
    """Raise a validation error with one entry a `(key below this model, message)`; nothing where there is none."""
    if found:
        lines = "; ".join(f"{key}: {message}" if key else message for key, message in found)
        raise PydanticCustomError("refused", "{lines}", {"lines": lines, "found": [list(pair) for pair in found]})


def not_plain(key: str, value: object) -> tuple[str, str] | None:
    """Return the key and refusal of the first value inside that strict JSON cannot hold, `None` where all is well."""
    if isinstance(value, float) and not math.isfinite(value):
        return key, refusal(value, "a finite number", "write the number you mean")
    if isinstance(value, Mapping):
        children = [(f"{key}.{name}", child) for name, child in value.items()]
    elif isinstance(value, (list, tuple)):
        children = [(f"{key}.{index}", child) for index, child in enumerate(value)]
    elif value is None or isinstance(value, (str, int, float)):
        return None
    else:
        return key, refusal(value, "text, a number, true, false, null, a list or a mapping", "write one of these")
    return next((found for name, child in children if (found := not_plain(name, child))), None)


def check_holdout_by(value: object) -> object:
    """Return how test rows are chosen: `random`, `stratified`, `official` or `{time: COLUMN}`."""
    if isinstance(value, Mapping) and list(value) == ["time"] and isinstance(value["time"], str) and value["time"]:
        return dict(value)
    if value not in ("random", "stratified", "official"):
        refuse([("", refusal(value, "random, stratified, official or {time: COLUMN}", "write one of these"))])
    return value


def party_names(parties: Mapping[str, object]) -> list[tuple[str, str]]:
    """Return what is wrong with the names of a split: one advertiser, a publisher or more, no reserved name."""
    found = [
        (party, refusal(party, "a party name of ASCII letters, digits and _", "rename the party"))
        for party in parties
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", party) or party in RESERVED
    ]
    if ADVERTISER not in parties:
        near = get_close_matches(ADVERTISER, parties, n=1)
        advice = f"rename {near[0]!r} to {ADVERTISER!r}" if near else f"add {ADVERTISER}: [columns]"
        found.append(("", refusal(list(parties), f"exactly one party named {ADVERTISER!r}", advice)))
    return found


def party_columns(parties: Mapping[str, object]) -> list[tuple[str, str]]:
    """Return what is wrong with the columns of a split: lists of names, each once; the advertiser's may be empty."""
    found: list[tuple[str, str]] = []
    for party, columns in parties.items():
        names = columns if isinstance(columns, (list, tuple)) else None
        if names is None or not all(isinstance(name, str) and name for name in names):
            found.append((party, refusal(columns, "a list of column names", "write [a, b]")))
        elif len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            found.append((party, refusal(twice, "each column once", "remove the second one")))
        elif not names and party != ADVERTISER:
            found.append((party, refusal([], "at least one column", "add columns or remove the party")))
    return found


def check_leftover(value: object) -> object:
    """Return who keeps rows that are not common: `even`, `publisher`, `advertiser` or `{PARTY: share}`."""
    allowed = "even, publisher, advertiser or {PARTY: share} with shares that sum to 1"
    if isinstance(value, Mapping):
        shares = [share for share in value.values() if isinstance(share, (int, float)) and 0 <= share <= 1]
        if len(shares) == len(value) and math.isclose(sum(shares), 1, abs_tol=1e-6):
            return {str(party): float(share) for party, share in value.items()}
    elif value in ("even", PUBLISHER, ADVERTISER):
        return value
    refuse([("", refusal(value, allowed, "write one of these"))])
    return value
