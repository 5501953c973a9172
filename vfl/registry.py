"""Find a member of a family by its name, and build it from plain options.

The registered name is the module's name is the name in YAML: `build("defense", {"name": "max_norm"})` imports
`vfl.defenses.max_norm` and makes its `MaxNorm`. Out of tree: `{"name": "my_pkg.my_file:MyDefense"}`.
Options are the dataclass's fields and nothing else.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pydantic

from vfl.errors import ConfigError, RegistryError, unknown_name

FAMILIES: dict[str, str] = {
    "data": "vfl.data",
    "align": "vfl.align",
    "impute": "vfl.impute",
    "model": "vfl.models",
    "method": "vfl.methods",
    "defense": "vfl.defenses",
    "attack": "vfl.attacks",
    "metric": "vfl.metrics",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """What a listing shows of one member, read from its source without importing it."""

    name: str
    summary: str
    reference: str


def class_name(module: str) -> str:
    """Return the class a member module must define: `max_norm` -> `MaxNorm`."""
    return "".join(part.capitalize() for part in module.split("_"))


def names(family: str) -> list[str]:
    """Return the sorted names of a family's members: the modules that define the class their name asks for."""
    return [entry.name for entry in entries(family)]


def entries(family: str) -> list[Entry]:
    """Return one `Entry` a member, sorted by name, importing none of them."""
    paths = (path for path in sorted(_folder(family).glob("*.py")) if not path.name.startswith("_"))
    found = (_stamped(path) for path in paths)
    return [entry for entry in found if entry is not None]


def find(family: str, name: str) -> type[Any]:
    """Import and return the class registered under `name`; raises `RegistryError` with the nearest known name."""
    if ":" in name:
        return _out_of_tree(family, name)
    if not _has(family, name):
        raise RegistryError(unknown_name(family, name, names(family)))
    module = importlib.import_module(f"{_package(family)}.{name}")
    return getattr(module, class_name(name))


def build(family: str, spec: Mapping[str, Any] | str) -> Any:  # noqa: ANN401 - the family's protocol types it
    """Make a member from `{"name": NAME, option: value, ...}` or a bare name.

    Raises `RegistryError` for an unknown name and `ConfigError` for an unknown option, a wrong type or a value out
    of range (which a member's `__post_init__` refuses with `ValueError`).
    """
    options = {"name": spec} if isinstance(spec, str) else dict(spec)
    name = options.pop("name", None)
    if not isinstance(name, str):
        known = ", ".join(names(family))
        raise ConfigError(f"got {name!r}, allowed one of {family}: {known}; write name: NAME", key="name")
    member = find(family, name)
    check_options(family, name, member, set(options))
    try:
        return pydantic.TypeAdapter(member).validate_python(options)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        reason = first["msg"].removeprefix("Value error, ")
        if first["type"] == "missing":
            raise ConfigError(f"got none, and {family} {name!r} needs it; add it", key=key) from None
        if key:
            reason = f"got {first['input']!r}, allowed {reason.removeprefix('Input should be ')}"
        raise ConfigError(f"{reason} ({family} {name!r})", key=key) from None


def check_options(family: str, name: str, member: type[Any], options: set[str]) -> None:
    """Raise `ConfigError` for the first option that is not a field of the member."""
    allowed = [field.name for field in dataclasses.fields(member) if field.init]
    for option in sorted(options):
        if option not in allowed:
            message = (
                unknown_name(f"option of {family} {name!r}", option, allowed)
                if allowed
                else (f"{family} {name!r} takes no options, got {option!r}; remove it")
            )
            raise ConfigError(message, key=option)


def _package(family: str) -> str:
    if family not in FAMILIES:
        raise RegistryError(unknown_name("family", family, FAMILIES))
    return FAMILIES[family]


def _folder(family: str) -> Path:
    return Path(__file__).parent / _package(family).removeprefix("vfl.")


def _has(family: str, name: str) -> bool:
    """Whether a member has this name; reads its own file alone, since a sweep builds thousands of members."""
    path = _folder(family) / f"{name}.py"
    return name.isidentifier() and not name.startswith("_") and path.is_file() and _stamped(path) is not None


def _out_of_tree(family: str, name: str) -> type[Any]:
    module_name, _, attribute = name.partition(":")
    try:
        member = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError, ValueError, TypeError, SyntaxError) as error:
        raise RegistryError(
            f"cannot import {family} {name!r} ({error}); check the path and that it is installed"
        ) from None
    if not (isinstance(member, type) and dataclasses.is_dataclass(member)):
        raise RegistryError(f"got {name!r}, allowed a dataclass for a {family}; decorate it with @dataclass")
    return member


def _stamped(path: Path) -> Entry | None:
    return _entry(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=1024)
def _entry(path: Path, stamp: int) -> Entry | None:
    """Return what a source file defines, from memory where it has not changed since."""
    del stamp
    wanted = class_name(path.stem)
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == wanted:
            text = ast.get_docstring(node) or ""
            reference = re.search(r"Reference: (.+?)(?:\n\s*\n|\Z)", text, re.DOTALL)
            return Entry(path.stem, text.split("\n")[0], " ".join(reference[1].split()) if reference else "")
    return None
