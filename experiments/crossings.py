"""What crossed between the parties of a run: who sent how much of which kind to whom, and under which protection."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from experiments.plan import World, party_specs
from experiments.schema import ADVERTISER, Config
from parties.spec import PartySpec
from vfl.defenses import Defense, LabelTransform, Penalty, Wrap
from vfl.registry import build
from vfl.types import Kind, Role


def crossings(config: Config, world: World, closing: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return one entry a party and kind of envelope that it sent to others; `closing` is each party's closing report.

    `changed_by` names the defenses that act on these envelopes themselves, `behind` those mounted at the sender that
    act on what they are made of: its labels, its loss, its network. `sealed` says whether the channel encrypted them.
    """
    found: list[dict[str, Any]] = []
    for spec in party_specs(config, world, None):
        if spec.role == Role.REFEREE:
            continue
        to = [ADVERTISER] if spec.role == Role.PUBLISHER else list(world.publishers)
        for kind in Kind:
            count = int(str(closing.get(spec.party, {}).get(f"bytes/{kind.value}", 0)))
            if count:
                entry = {"party": spec.party, "to": to, "kind": kind.value, "bytes": count}
                found.append({**entry, **_protection(spec, kind), "codec": config.wire.codec, "sealed": spec.channel})
    return found


def _protection(spec: PartySpec, kind: Kind) -> dict[str, list[str]]:
    changed: list[str] = []
    behind: list[str] = []
    for member in spec.defenses:
        defense = build("defense", member)
        if isinstance(defense, Defense) and kind in defense.kinds:
            changed.append(str(member["name"]))
        elif kind in (Kind.EMBEDDING, Kind.GRADIENT) and isinstance(defense, LabelTransform | Penalty | Wrap):
            behind.append(str(member["name"]))
    return {"changed_by": changed, "behind": behind}
