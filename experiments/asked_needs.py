"""What an attack needs, asked without running its code in this process where it is not this project's own."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from experiments.schema import AttackSpec
from parties.isolate import Bounds, Isolation, folders
from vfl.attacks import Needs
from vfl.registry import build
from vfl.types import Kind


def needs_of(spec: AttackSpec) -> Needs:
    """Return what an attack needs; raises what `build` raises for an unknown name or a refused option.

    An attack from outside this project is imported in a confined process alone: this one may hold labels.
    """
    if ":" not in spec.name:
        return build("attack", spec.member).needs
    return _outside(json.dumps(spec.member, sort_keys=True))


@cache
def _outside(member: str) -> Needs:
    attack: Mapping[str, Any] = json.loads(member)
    with Isolation() as isolation, tempfile.TemporaryDirectory(prefix="vfl-attack-") as scratch:
        bounds = Bounds(read=(), write=folders([Path(scratch)]), module=attack["name"].partition(":")[0])
        told = isolation.call("parties.inference:needs", {"attack": attack}, bounds)
    kinds = {name: frozenset(Kind(kind) for kind in told[name]) for name in ("received", "sent")}
    return Needs(**{**told, **kinds})
