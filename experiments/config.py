"""YAML -> checked configuration -> run id. The only module that knows YAML; it imports no torch.

Scalars are those of YAML 1.2: `1e-3` is a number, `no` and `on` are text, and a key may stand only once in a mapping.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from experiments.checks import check_members
from experiments.explain import Origin, explain
from experiments.overrides import ordered, put
from experiments.problems import ConfigErrors, raise_all, refusal
from experiments.schema import Config
from vfl.errors import ConfigError

ROW_SCHEMA = 1
"""Version of the row that a run leaves; a part of every run id."""

SCALARS = {
    "null": ("~|null|Null|NULL|", ["~", "n", "N", ""]),
    "bool": ("true|True|TRUE|false|False|FALSE", list("tTfF")),
    "int": ("[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    "float": (
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
}
"""YAML 1.2's core schema: how a plain scalar of each type reads, and the characters it may begin with."""


class _Loader(yaml.SafeLoader):
    """Reads the core schema and nothing else: no dates, no sets, no objects, no merge keys."""


class _Dumper(yaml.SafeDumper):
    """Quotes what `_Loader` would otherwise read as another type."""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str):
            problem = f"got the key {key!r}, allowed text; put it in quotes"
            raise yaml.constructor.ConstructorError(problem=problem, problem_mark=key_node.start_mark)
        if key in values:
            problem = f"the key {key!r} stands twice in one mapping; remove one"
            raise yaml.constructor.ConstructorError(problem=problem, problem_mark=key_node.start_mark)
        values[key] = loader.construct_object(value_node, deep=True)
    return values


def _sequence(loader: _Loader, node: yaml.SequenceNode) -> list[Any]:
    return [loader.construct_object(child, deep=True) for child in node.value]


def _int(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = node.value
    return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))


def _install() -> None:
    for kind in (_Loader, _Dumper):
        kind.yaml_implicit_resolvers = {}
        for name, (pattern, first) in SCALARS.items():
            kind.add_implicit_resolver(f"tag:yaml.org,2002:{name}", re.compile(f"^(?:{pattern})$"), first)
    known = _Loader.yaml_constructors
    kept = {f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "float", "str")} | {None}
    _Loader.yaml_constructors = {tag: function for tag, function in known.items() if tag in kept}
    _Loader.add_constructor("tag:yaml.org,2002:int", _int)
    _Loader.add_constructor("tag:yaml.org,2002:map", _mapping)
    _Loader.add_constructor("tag:yaml.org,2002:seq", _sequence)


_install()


def load(path: Path | None = None, sets: Sequence[str] = (), **overrides: object) -> Config:
    """Read a file, put `KEY=VALUE` settings over it, then single keys (`seed=3`; `None` leaves one alone); check all.

    No file means the default run. Members are not looked up: that is `check_members`.

    Raises `ConfigError`, one for each mistake; several come together as `ConfigErrors`.
    """
    given = {key: value for key, value in overrides.items() if value is not None}
    pairs = [read_set(text) for text in sets]
    values = {} if path is None else read_file(path)
    defaults = resolved(Config())
    for key, value in ordered(pairs):
        values = put(values, key, value, defaults)
    return parse({**values, **given}, origin_of(path, sets, given))


def origin_of(path: Path | None, sets: Sequence[str] = (), overrides: Mapping[str, object] | None = None) -> Origin:
    """Return where the values of a configuration came from, for the front of an error."""
    keys = tuple(text.partition("=")[0].strip() for text in sets)
    flags = tuple(key for key, value in (overrides or {}).items() if value is not None)
    return Origin("" if path is None else str(path), keys, flags)


def parse(values: Mapping[str, Any], origin: Origin | None = None) -> Config:
    """Return the configuration that plain values make; raises `ConfigError` or `ConfigErrors`."""
    try:
        return Config.model_validate(dict(values))
    except ValidationError as error:
        found = explain(error, Config, origin or Origin())
    raise_all(found)
    raise AssertionError("a refused configuration has an error")


def read_file(path: Path) -> dict[str, Any]:
    """Return the mapping that a YAML file holds; an empty file is an empty mapping. Raises `ConfigError`."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError("no such file; check the path", where=str(path)) from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ConfigError(f"cannot be read ({reason}); check the file", where=str(path)) from None
    values = _read_yaml(text, where=str(path), key="")
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(refusal(values, "a mapping of keys", "write `key: value` lines"), where=str(path))
    return values


def read_set(text: str) -> tuple[str, Any]:
    """Split `KEY=VALUE` and read the value as YAML (`3`, `[a, b]`, `{name: x}`); raises `ConfigError`."""
    key, equals, value = text.partition("=")
    key = key.strip()
    if not equals or not key:
        raise ConfigError(refusal(text, "KEY=VALUE", "write e.g. --set train.epochs=3"), where="--set")
    return key, _read_yaml(value, where="--set", key=key)


def resolved(config: Config) -> dict[str, Any]:
    """Return every key with its value, defaults filled in, as plain JSON types."""
    return config.model_dump(mode="json", by_alias=True)


def dump(config: Config) -> str:
    """Return YAML that `load` reads back to the same configuration."""
    return yaml.dump(
        resolved(config), Dumper=_Dumper, sort_keys=False, default_flow_style=None, allow_unicode=True, width=120
    )


def dump_changed(config: Config) -> str:
    """Return YAML of what differs from the defaults alone, that `load` reads back to the same configuration."""
    values = _changed(resolved(config), resolved(Config()))
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, default_flow_style=None, allow_unicode=True, width=100)


def _changed(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys whose values differ; a member that differs keeps its name, entries of lists lose null keys."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        default = defaults.get(key)
        if value == default and key in defaults:
            continue
        if isinstance(value, dict) and isinstance(default, dict):
            named = {"name": value["name"]} if "name" in value else {}
            found[key] = {**named, **_changed(value, default)}
        elif isinstance(value, list):
            found[key] = [
                {name: each for name, each in entry.items() if each is not None} if isinstance(entry, dict) else entry
                for entry in value
            ]
        else:
            found[key] = value
    return found


def run_id(config: Config, data_hash: str, version: str) -> str:
    """Return 12 hex digits that name what is computed: same id, same row.

    They cover the resolved configuration, `data_hash` (the content of the input files), the row schema and the
    package's version. `data.root` is left out, since the same files elsewhere give the same run.
    """
    asked = resolved(config)
    del asked["data"]["root"]
    parts = {"config": asked, "data": data_hash, "schema": ROW_SCHEMA, "version": version}
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def json_schema() -> dict[str, Any]:
    """Return the JSON schema of a configuration file, for editors."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Config.model_json_schema(by_alias=True)}


def _read_yaml(text: str, *, where: str, key: str) -> Any:  # noqa: ANN401 - whatever the text holds
    try:
        return yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f"line {mark.line + 1}: " if mark and not key else ""
        problem = " ".join((error.problem or error.context or "not YAML").split())
        advice = "" if ";" in problem else "; mend the YAML there"
    except yaml.YAMLError as error:
        line, problem, advice = "", " ".join(str(error).split()), "; mend the YAML"
    except (ValueError, RecursionError) as error:
        line, problem, advice = "", f"not YAML that can be read ({type(error).__name__})", "; write it more simply"
    raise ConfigError(f"{line}{problem}{advice}", key=key, where=where)


__all__ = [
    "ROW_SCHEMA",
    "Config",
    "ConfigErrors",
    "Origin",
    "check_members",
    "dump",
    "dump_changed",
    "json_schema",
    "load",
    "origin_of",
    "parse",
    "read_file",
    "read_set",
    "resolved",
    "run_id",
]
