"""What pydantic refuses, told to the person who wrote it: one line each, with the key and what may stand there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from experiments.problems import nearest, refusal
from vfl.errors import ConfigError, unknown_name

KINDS = {
    "int_type": ("a whole number", "write it without quotes or a point"),
    "int_from_float": ("a whole number", "write it without a fraction"),
    "float_type": ("a number", "write it without quotes"),
    "finite_number": ("a finite number", "write the number you mean"),
    "string_type": ("text", "put it in quotes"),
    "string_too_short": ("text that is not empty", "write a name"),
    "string_pattern_mismatch": ("letters, digits, '_', '-' and '.'", "choose another name"),
    "model_type": ("a mapping of keys", "write {key: value}"),
    "model_attributes_type": ("a mapping of keys", "write {key: value}"),
    "mapping_type": ("a mapping of keys", "write {key: value}"),
    "tuple_type": ("a list", "write [a, b]"),
    "too_short": ("at least one entry", "add one"),
    "missing": ("a value", "add this key"),
}
BOUNDS = {
    "greater_than": ("gt", "a number above {}"),
    "greater_than_equal": ("ge", "{} or more"),
    "less_than": ("lt", "a number below {}"),
    "less_than_equal": ("le", "{} or less"),
}


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the values of a configuration came from: its file, the keys of `--set`, and options of their own."""

    file: str = ""
    sets: tuple[str, ...] = ()
    options: tuple[str, ...] = ()

    def where(self, key: str) -> str:
        """Return what goes in front of an error about `key`: the option, `--set`, or the file."""
        if key in self.options:
            return f"--{key}"
        if key and any(f"{key}.".startswith(f"{name}.") or name.startswith(f"{key}.") for name in self.sets):
            return "--set"
        return self.file


def explain(error: ValidationError, model: type[BaseModel], origin: Origin) -> list[ConfigError]:
    """Return one `ConfigError` for each mistake that `model` found, in the order of its keys."""
    found: list[ConfigError] = []
    for item in error.errors(include_url=False):
        key = dotted(*item["loc"])
        told = item.get("ctx", {}).get("found") or [("", _message(item, model))]
        for below, message in told:
            place = dotted(key, below)
            found.append(ConfigError(message, key=place, where=origin.where(place)))
    return found


def dotted(*parts: str | int) -> str:
    """Join the parts of a key with dots, leaving out empty ones."""
    return ".".join(str(part) for part in parts if part != "")


def _message(item: Mapping[str, Any], model: type[BaseModel]) -> str:
    kind, got, context = item["type"], item["input"], item.get("ctx", {})
    if kind == "extra_forbidden":
        return unknown_name("key", str(item["loc"][-1]), _keys_at(model, item["loc"][:-1]))
    if kind == "literal_error":
        allowed = context["expected"].replace("'", "")
        return refusal(got, allowed, nearest(got, allowed.replace(" or ", ", ").split(", "), "write one of these"))
    if kind in BOUNDS:
        name, phrase = BOUNDS[kind]
        return refusal(got, phrase.format(f"{context[name]:g}" if context[name] < 1e6 else context[name]), "change it")
    if kind in KINDS:
        return refusal(None if kind == "missing" else got, *KINDS[kind])
    return f"got {got!r}; {' '.join(item['msg'].split())}"


def _keys_at(model: type[BaseModel], loc: tuple[str | int, ...]) -> list[str]:
    """Return the keys that may stand below `loc`; list positions and party names lead nowhere deeper by themselves."""
    for part in loc:
        field = model.model_fields.get(str(part))
        if field is not None:
            model = _model_in(field.annotation) or model
    return [field.alias or name for name, field in model.model_fields.items()]


def _model_in(annotation: object) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _model_in(part))), None)
