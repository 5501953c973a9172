"""What a threat model grants, held against what attacks ask for."""

from __future__ import annotations

from collections.abc import Sequence

from experiments.asked_needs import needs_of
from experiments.checks import beyond
from experiments.plan import World, adversaries
from experiments.problems import refusal
from experiments.schema import ADVERTISER, AttackSpec, Config
from vfl.errors import ThreatError
from vfl.types import Kind, PartyId


def victims(config: Config, world: World) -> tuple[PartyId, ...]:
    """Return the parties under attack that hold columns."""
    looking = adversaries(config, world)
    return tuple(party for party, columns in world.columns.items() if columns and party not in looking)


def check_threat(config: Config, world: World, attacks: Sequence[AttackSpec]) -> None:
    """Refuse attacks that ask for more than the threat model grants; raises `ThreatError` naming the entry."""
    looking = adversaries(config, world)
    if attacks and set(looking) >= set(world.columns):
        message = refusal(", ".join(looking), "some of the parties", "leave one out: nobody is left to learn about")
        raise ThreatError(message, key="threat.adversaries")
    received, sent = (
        ({Kind.EMBEDDING}, {Kind.GRADIENT, Kind.SCORE})
        if ADVERTISER in looking
        else (
            {Kind.GRADIENT},
            {Kind.EMBEDDING},
        )
    )
    for place, spec in enumerate(attacks):
        needs = needs_of(spec)
        if needs.active and needs.received and config.record.every > 1:
            message = refusal(config.record.every, "1 with an attack that acts on every round it sees", "record all")
            raise ThreatError(message, key="record.every")
        lacks = beyond(needs, config.threat.hints, spec.key)
        if lacks:
            raise ThreatError(lacks[0], key=f"attack.{place}")
        missing = sorted({*(needs.received - received), *(needs.sent - sent)} - {Kind.PSI, Kind.CONTROL})
        if missing:
            raise ThreatError(
                f"needs {', '.join(missing)} envelopes, which these adversaries do not see; change threat.adversaries",
                key=f"attack.{place}",
            )


def check_took_part(config: Config, attacks: Sequence[AttackSpec]) -> None:
    """Refuse active attacks on a recorded run that they had no part in; raises `ThreatError` naming the entry."""
    members = [spec.member for spec in config.attack]
    for place, spec in enumerate(attacks):
        if needs_of(spec).active and spec.member not in members:
            message = refusal(spec.name, "attacks that only look", "simulate a run with it: it tampers with the run")
            raise ThreatError(message, key=f"attack.{place}")
