"""Attack a recorded run: an attack in a clean process that holds its view, the referee's marks in another."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.plan import World, adversaries, party_folder, party_specs
from experiments.progress import Progress
from experiments.schema import AttackSpec, Config
from parties.isolate import Bounds, Isolation, folders
from vfl.attacks import Attack, Needs
from vfl.errors import ThreatError, UserError
from vfl.registry import build
from vfl.seeds import Seeds
from vfl.types import Kind, PartyId, Role

JOBS = "parties.judging"


@dataclass(frozen=True, slots=True)
class Target:
    """A recorded run under attack: its configuration, its world and its directory."""

    config: Config
    world: World
    run_dir: Path

    @property
    def adversaries(self) -> tuple[PartyId, ...]:
        """The parties that look."""
        return adversaries(self.config, self.world)


def check_threat(config: Config, world: World, attacks: Sequence[AttackSpec]) -> None:
    """Refuse attacks that ask for more than the threat model grants; raises `ThreatError` naming the entry."""
    parties = adversaries(config, world)
    publisher = any(party != "advertiser" for party in parties)
    received = {Kind.GRADIENT} if publisher else set[Kind]()
    sent = {Kind.EMBEDDING} if publisher else {Kind.GRADIENT}
    received |= {Kind.EMBEDDING} if "advertiser" in parties else set()
    granted = config.threat.hints.labelled_rows
    for place, spec in enumerate(attacks):
        member: Attack = build("attack", spec.member)
        _check_needs(member.needs, received, sent, granted, f"attack.{place}")


def attack_all(
    target: Target, attacks: Sequence[AttackSpec], isolation: Isolation, progress: Progress
) -> dict[str, Any]:
    """Return the figures of each attack by its key."""
    found: dict[str, Any] = {}
    progress.start("attack", len(attacks))
    for done, spec in enumerate(attacks, start=1):
        with tempfile.TemporaryDirectory(prefix="vfl-attack-") as scratch:
            found[spec.key] = _attack(target, spec, isolation, Path(scratch))
        progress.advance("attack", done, spec.key)
    progress.finish("attack")
    return found


def _attack(target: Target, spec: AttackSpec, isolation: Isolation, scratch: Path) -> dict[str, Any]:
    member: Attack = build("attack", spec.member)
    seeds = Seeds(target.config.seed)
    truth = _truth(target)
    granted, known = scratch / "granted", scratch / "known"
    for folder in (granted, known, scratch / "out"):
        folder.mkdir()
    rows = min(member.needs.labelled_rows, target.config.threat.hints.labelled_rows)
    hints = {"labelled_rows": rows, "seeds": seeds.scope("hints"), "out": str(granted / "hints")}
    isolation.call(f"{JOBS}:hint", {**truth, **hints})
    isolation.call(f"{JOBS}:hint_everything", {**truth, "out": str(known / "hints")})
    seed = seeds.at("attack", spec.key)
    guesses = {
        "guess": _infer(target, spec, isolation, granted, scratch / "out" / "guess", seed),
        "upper": _infer(target, spec, isolation, known, scratch / "out" / "upper", seed),
    }
    marked = {"guesses": guesses, "hints": str(granted / "hints"), "seeds": seeds.scope("marks", spec.key)}
    figures = isolation.call(f"{JOBS}:marks", {**truth, **marked})
    return {**figures, "labelled_rows": rows, "adversaries": list(target.adversaries)}


def _infer(target: Target, spec: AttackSpec, isolation: Isolation, hints: Path, out: Path, seed: int) -> str:
    places = [party_folder(target.run_dir, party) / "transcript" for party in target.adversaries]
    out.mkdir()
    seen = {"folders": folders(places), "parties": target.adversaries, "classes": len(target.world.described.classes)}
    module = spec.name.partition(":")[0] if ":" in spec.name else ""
    bounds = Bounds(read=folders([*places, hints]), write=folders([out]), module=module)
    guess = str((out / "guess").resolve())
    work = {"attack": spec.member, "view": seen, "hints": str((hints / "hints").resolve()), "seed": seed, "out": guess}
    isolation.call("parties.inference:infer", work, bounds)
    return guess


def _truth(target: Target) -> Mapping[str, Any]:
    specs = party_specs(target.config, target.world, None)
    shard = next(spec.shard for spec in specs if spec.role == Role.ADVERTISER)
    folder = str(party_folder(target.run_dir, "referee"))
    return {"shard": shard, "folder": folder, "classes": len(target.world.described.classes)}


def _check_needs(needs: Needs, received: set[Kind], sent: set[Kind], granted: int, key: str) -> None:
    if needs.labelled_rows > granted:
        raise ThreatError(
            f"needs {needs.labelled_rows} labelled rows, threat.hints.labelled_rows grants {granted}; raise the grant",
            key=key,
        )
    missing = sorted({*(needs.received - received), *(needs.sent - sent)})
    if missing:
        raise ThreatError(
            f"needs {', '.join(missing)} envelopes, which these adversaries do not see; change threat.adversaries",
            key=key,
        )


def require_transcript(target: Target) -> None:
    """Refuse to attack a run whose transcript is not there."""
    for party in target.adversaries:
        folder = party_folder(target.run_dir, party) / "transcript"
        if not folder.is_dir() or not any(folder.iterdir()):
            raise UserError(
                "got no transcript, allowed a run recorded with record.every of 1 or more and record.keep: run",
                where=str(folder),
            )
