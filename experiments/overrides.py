"""`--set a.b=value`: put one value into a configuration as it was written, before anything is checked.

Wider keys go first and names before their options, so the order on the command line does not matter; of two settings
of one key the last one wins. Naming another member (`--set data.name=csv`) drops the options of the old one, since
they were its own; keys of the section itself (`data.root`, `align.overlap`, a defense's `party`) stay.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from experiments.problems import refusal
from vfl.errors import ConfigError

KEPT = {"data": {"root"}, "align": {"overlap", "leftover"}, "defense": {"party"}, "attack": {"as"}}
"""By section: the keys that belong to the section and not to the member it names."""


def ordered(sets: Sequence[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """Return the settings in the order they are put in: wide keys first, names before options."""
    return sorted(sets, key=lambda pair: (pair[0].count("."), not pair[0].endswith(".name")))


def put(values: dict[str, Any], key: str, value: object, defaults: dict[str, Any]) -> dict[str, Any]:
    """Return `values` with `value` at the dotted `key`; a part that was not written starts from `defaults`.

    A number picks an entry of a list; the number one past its end adds an entry. Raises `ConfigError` where the key
    leads through something that has no keys.
    """
    parts = key.split(".")
    if not all(parts):
        raise ConfigError(refusal(key, "keys joined by single dots", "write a.b=value"), key=key, where="--set")
    return _put(values, defaults, parts, 0, value)


def _put(node: Any, default: Any, parts: list[str], depth: int, value: object) -> Any:  # noqa: ANN401 - a YAML value
    if depth == len(parts):
        return value
    part = parts[depth]
    node = copy.deepcopy(default) if node is None else node
    if node is None:
        node = [] if part.isdecimal() else {}
    if isinstance(node, str):
        node = {"name": node}
    if isinstance(node, list):
        return _put_in_list(node, parts, depth, value)
    if not isinstance(node, dict):
        above = ".".join(parts[:depth])
        message = refusal(part, f"no key below {above}, which holds {node!r}", f"set {above} itself")
        raise ConfigError(message, key=".".join(parts), where="--set")
    inner = default.get(part) if isinstance(default, dict) else None
    if depth == len(parts) - 1 and part == "name" and value != node.get("name", inner):
        kept = KEPT.get(parts[0], set())
        node = {name: option for name, option in node.items() if name in kept}
    return {**node, part: _put(node.get(part), inner, parts, depth + 1, value)}


def _put_in_list(node: list[Any], parts: list[str], depth: int, value: object) -> list[Any]:
    part, size = parts[depth], len(node)
    if not part.isdecimal() or int(part) > size:
        above = ".".join(parts[:depth])
        allowed = f"0 to {size}, where {size} adds an entry" if size else "0, which adds an entry"
        message = refusal(part, allowed, f"pick an entry of {above}")
        raise ConfigError(message, key=".".join(parts), where="--set")
    index = int(part)
    entry = _put(node[index] if index < size else {}, {}, parts, depth + 1, value)
    return [*node[:index], entry, *node[index + 1 :]]
