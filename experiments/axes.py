"""A sweep file -> its trials: a base run and axes, crossed, zipped, conditional, or drawn at random from the grid.

base: {train: {epochs: 2}}                     # keys of a run; `backend` is local, one trial a worker
axes:
  - seed: [0, 1, 2]                            # axes are crossed with one another
  - {method.name: [vanilla, risa], train.epochs: [2, 4]}   # keys of one axis go together, value by value
  - defense: [[], [{name: marvell, s: 1}]]
  - defense.0.s: [1, 4, 16]                    # tried only where the trial so far has what `when` says
    when: {defense.0.name: marvell}
sample: {trials: 20, seed: 0}                  # of the whole grid; left out, all of it
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.config import parse, read_file, resolved
from experiments.explain import Origin
from experiments.overrides import ordered, put
from experiments.problems import nearest, raise_all, refusal
from experiments.schema import Config
from vfl.errors import ConfigError, UserError
from vfl.seeds import Seeds

KEYS = ("base", "axes", "sample")
SWEEP_DEFAULTS: dict[str, Any] = {"backend": "local", "record": {"keep": "marks"}, "train": {"checkpoint_every": 0}}
"""What a trial has unless the base says otherwise: it is run again rather than resumed, and its transcript is large."""

Setting = tuple[tuple[str, Any], ...]
"""Keys and values that one point of an axis sets together."""


@dataclass(frozen=True, slots=True)
class Axis:
    """The points of one axis, and what a trial must have so far for them to be tried."""

    points: tuple[Setting, ...]
    when: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Asked:
    """One trial: its checked configuration and what the axes set, in their order."""

    config: Config
    settings: Setting


def read_sweep(path: Path) -> list[Asked]:
    """Return the trials of a sweep file in their order, none twice; raises `ConfigError` naming the file and key."""
    values = read_file(path)
    try:
        return _trials(values, path)
    except UserError as error:
        raise error.at(where=str(path)) from None


def _trials(values: Mapping[str, Any], path: Path) -> list[Asked]:
    for key in values:
        if key not in KEYS:
            raise ConfigError(refusal(key, ", ".join(KEYS), nearest(key, KEYS, "remove it")), key=key)
    base = _base(values.get("base") or {})
    axes = [_axis(entry, f"axes.{place}") for place, entry in enumerate(_axes(values))]
    settings = list(dict.fromkeys(_hashable(setting) for setting in _grid(base, axes)))
    _refuse_untried(axes, [_plain(setting) for setting in settings])
    chosen = _sample(values.get("sample"), [_plain(setting) for setting in settings])
    found: list[Asked] = []
    errors: dict[str, UserError] = {}
    for setting in chosen:
        try:
            config = parse(_applied(base, setting), Origin(str(path)))
            _require_local(config.backend, "axes.backend")
            found.append(Asked(config, setting))
        except UserError as error:
            for each in getattr(error, "errors", (error,)):
                errors.setdefault(str(each), each)
    raise_all(list(errors.values()))
    return found


def _base(values: object) -> dict[str, Any]:
    if not isinstance(values, dict):
        raise ConfigError(refusal(values, "a mapping of keys of a run", "write base: {key: value}"), key="base")
    merged = dict(values)
    for key, default in SWEEP_DEFAULTS.items():
        given = merged.get(key)
        if isinstance(default, dict) and (given is None or isinstance(given, dict)):
            merged[key] = {**default, **(given or {})}
        else:
            merged.setdefault(key, default)  # what is no section is refused as that of a run is
    _require_local(merged["backend"], "base.backend")
    return merged


def _require_local(backend: object, key: str) -> None:
    if backend != "local":
        advice = "leave it out: a sweep runs one whole trial in each worker"
        raise ConfigError(refusal(backend, "local", advice), key=key)


def _axes(values: Mapping[str, Any]) -> list[Any]:
    return _list(values["axes"], "axes") if "axes" in values else []


def _axis(entry: object, key: str) -> Axis:
    if not isinstance(entry, dict) or not set(entry) - {"when"}:
        raise ConfigError(refusal(entry, "a mapping of keys to lists of values", "write - key: [a, b]"), key=key)
    when = entry.get("when", {})
    if not isinstance(when, dict):
        raise ConfigError(refusal(when, "a mapping of keys to a value each", "write when: {key: value}"), key=key)
    columns = {name: _list(values, f"{key}.{name}") for name, values in entry.items() if name != "when"}
    lengths = {len(values) for values in columns.values()}
    if len(lengths) > 1:
        told = ", ".join(f"{name} {len(values)}" for name, values in columns.items())
        raise ConfigError(
            f"got lists of different lengths ({told}), allowed one length; keys of one axis go together", key=key
        )
    points = tuple(tuple((name, values[at]) for name, values in columns.items()) for at in range(lengths.pop()))
    return Axis(points, when)


def _list(values: object, key: str) -> list[Any]:
    if not isinstance(values, list) or not values:
        raise ConfigError(refusal(values, "a list of one value or more", "write [a, b]"), key=key)
    return values


def _grid(base: dict[str, Any], axes: Sequence[Axis]) -> Iterator[Setting]:
    """Yield what each point of the grid sets; an axis whose `when` does not hold is passed over."""
    if not axes:
        yield ()
        return
    for before in _grid(base, axes[:-1]):
        if all(_get(_applied(base, before), key) == wanted for key, wanted in axes[-1].when.items()):
            yield from (before + point for point in axes[-1].points)
        else:
            yield before


def _refuse_untried(axes: Sequence[Axis], settings: Sequence[Setting]) -> None:
    """Refuse an axis whose condition no trial meets: a name in it is wrong, or an axis it reads comes after it."""
    set_somewhere = {pair[0] for setting in settings for pair in setting}
    for place, axis in enumerate(axes):
        if axis.when and not {key for key, _ in axis.points[0]} <= set_somewhere:
            told = ", ".join(f"{key}: {json.dumps(value)}" for key, value in axis.when.items())
            advice = "write values that base or an axis above it sets, or take the axis out"
            raise ConfigError(f"got a condition that no trial meets ({told}); {advice}", key=f"axes.{place}.when")


def _applied(base: dict[str, Any], setting: Setting) -> dict[str, Any]:
    defaults, values = resolved(Config()), base
    for key, value in itertools.chain.from_iterable(ordered([pair]) for pair in setting):
        values = put(values, key, value, defaults)
    return values


def _get(values: Any, key: str) -> Any:  # noqa: ANN401 - a YAML value
    for part in key.split("."):
        if isinstance(values, list):
            values = values[int(part)] if part.isdecimal() and int(part) < len(values) else None
        elif isinstance(values, dict):
            values = values.get(part)
        else:
            return values if part == "name" and isinstance(values, str) else None
    return values


def _sample(asked: object, settings: list[Setting]) -> list[Setting]:
    if asked is None:
        return settings
    if not isinstance(asked, dict) or set(asked) != {"trials", "seed"}:
        raise ConfigError(refusal(asked, "trials and seed", "write sample: {trials: 20, seed: 0}"), key="sample")
    count, seed = asked["trials"], asked["seed"]
    if type(count) is not int or not 0 < count <= len(settings):
        raise ConfigError(
            refusal(count, f"1 to {len(settings)}, the size of the grid", "lower it"), key="sample.trials"
        )
    if type(seed) is not int or seed < 0:
        raise ConfigError(refusal(seed, "a whole number from 0", "write seed: 0"), key="sample.seed")
    picked = Seeds(seed).numpy("sample").choice(len(settings), count, replace=False)
    return [settings[place] for place in sorted(picked)]


def _hashable(setting: Setting) -> str:
    return json.dumps(setting)


def _plain(text: str) -> Setting:
    return tuple((key, value) for key, value in json.loads(text))
