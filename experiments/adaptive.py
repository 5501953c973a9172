"""The attacker that knows the defense: `{name: adaptive}` stands for the attacks that a run's defenses declare.

A defense lists in `counters` the specs of attacks made against it. Where an entry of `attack` is called `adaptive`,
those of all defenses of the run take its place, each under the name `adaptive_NAME`; without a defense that declares
one nothing does, so the same entry serves every trial of a sweep.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.asked_needs import needs_of
from experiments.problems import refusal
from experiments.schema import AttackSpec, Config
from vfl.errors import ConfigError, UserError
from vfl.registry import build

ADAPTIVE = "adaptive"


def adapted(config: Config) -> Config:
    """Return the configuration with what stands for `adaptive` in its place; raises `ConfigError` for options to it."""
    found = counters(config, config.attack)
    return config if found == config.attack else config.model_copy(update={"attack": found})


def counters(config: Config, attacks: Sequence[AttackSpec]) -> tuple[AttackSpec, ...]:
    """Return attacks with those that the run's defenses declare in the place of `adaptive`."""
    found: list[AttackSpec] = []
    for place, spec in enumerate(attacks):
        if spec.name != ADAPTIVE:
            found.append(spec)
            continue
        if spec.options or spec.as_:
            message = refusal(spec.member, "the name alone", "set options on an attack of its own")
            raise ConfigError(message, key=f"attack.{place}")
        found += _declared(config)
    return tuple(found)


def afterwards(config: Config, attacks: Sequence[AttackSpec]) -> list[AttackSpec]:
    """Return what `counters` gives for a run that is over: without counter-attacks that would have had to act in it."""
    took_part, asked = [spec.member for spec in config.attack], {spec.key for spec in attacks}
    return [
        spec
        for spec in counters(config, attacks)
        if spec.key in asked or spec.member in took_part or not needs_of(spec).active
    ]


def _declared(config: Config) -> list[AttackSpec]:
    specs: list[Mapping[str, Any]] = []
    for defense in config.defense:
        try:
            member = build("defense", defense.member)
        except UserError:  # whoever checks the members says what is wrong with it, and all else
            continue
        specs += [each for each in getattr(member, "counters", ()) if each not in specs]
    return [AttackSpec.model_validate({**each, "as": f"{ADAPTIVE}_{each.get('as', each['name'])}"}) for each in specs]
