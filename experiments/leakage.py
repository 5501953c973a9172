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
from experiments.threat import check_threat, victims
from parties.isolate import Bounds, Isolation, folders
from vfl.attacks import Needs
from vfl.errors import PartyError, UserError
from vfl.registry import build
from vfl.seeds import Seeds
from vfl.types import PartyId, Role

__all__ = ["Target", "attack_all", "check_threat", "require_transcript"]

JOBS = "parties.judging"
HEADLINES = ("leak_auc", "auc", "mae", "nmse", "accuracy")


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


def attack_all(
    target: Target, attacks: Sequence[AttackSpec], isolation: Isolation, progress: Progress
) -> dict[str, Any]:
    """Return the figures of each attack by its key; of one that failed, its `error`."""
    found: dict[str, Any] = {}
    progress.start("attack", len(attacks))
    for done, spec in enumerate(attacks, start=1):
        with tempfile.TemporaryDirectory(prefix="vfl-attack-") as scratch:
            try:
                found[spec.key] = _attack(target, spec, isolation, Path(scratch))
            except PartyError as error:
                found[spec.key] = {"target": None, "error": f"it failed: {error}"}
        progress.advance("attack", done, spec.key)
    progress.finish("attack")
    return found


def unmarked(leakage: Mapping[str, Any], adversaries: Sequence[PartyId]) -> list[tuple[str, str]]:
    """Return the attacks that have no figure at all, and why."""
    reason = "no batch held rows of both classes that the adversary had not been told"
    if not adversaries:
        reason = "nobody takes part who could look"
    return [(key, figures.get("error") or reason) for key, figures in leakage.items() if _headless(figures)]


def _headless(figures: Mapping[str, Any]) -> bool:
    return not any(isinstance(value, float | int) for key, value in figures.items() if key in HEADLINES)


def _attack(target: Target, spec: AttackSpec, isolation: Isolation, scratch: Path) -> dict[str, Any]:
    needs: Needs = build("attack", spec.member).needs
    seeds = Seeds(target.config.seed)
    truth, under_attack = _truth(target), _folders(target, victims(target.config, target.world))
    granted, known = scratch / "granted", scratch / "known"
    for folder in (granted, known, scratch / "out"):
        folder.mkdir()
    grant = {name: getattr(needs, name) for name in ("labelled_rows", "known_rows", "prior", "scores", "victim_models")}
    grant["seeds"] = seeds.scope("hints")
    all_told = {**grant, "labelled_rows": None, "known_rows": None if needs.known_rows else 0}
    work = {**truth, "victims": under_attack}
    isolation.call(f"{JOBS}:hint", {**work, "grant": grant, "out": str(granted)})
    isolation.call(f"{JOBS}:hint", {**work, "grant": all_told, "out": str(known)})
    seed = seeds.at("attack", spec.key)
    guesses = {
        "guess": _infer(target, spec, isolation, granted, scratch / "out" / "guess", seed),
        "upper": _infer(target, spec, isolation, known, scratch / "out" / "upper", seed),
        "grant": str(granted),
        "networks": _networks(target),
    }
    figures = isolation.call(f"{JOBS}:marks", {**work, "guesses": guesses, "seeds": seeds.scope("marks", spec.key)})
    return {**figures, "labelled_rows": needs.labelled_rows, "adversaries": list(target.adversaries)}


def _infer(target: Target, spec: AttackSpec, isolation: Isolation, grant: Path, out: Path, seed: int) -> str:
    places = _folders(target, target.adversaries)
    out.mkdir()
    seen = {
        "folders": list(places.values()),
        "parties": list(places),
        "classes": len(target.world.described.classes),
        "networks": _networks(target),
    }
    module = spec.name.partition(":")[0] if ":" in spec.name else ""
    bounds = Bounds(read=(*places.values(), str(grant.resolve())), write=folders([out]), module=module)
    guess = str((out / "guess").resolve())
    work = {"attack": spec.member, "view": seen, "grant": str(grant.resolve()), "seed": seed, "out": guess}
    isolation.call("parties.inference:infer", work, bounds)
    return guess


def _truth(target: Target) -> Mapping[str, Any]:
    specs = party_specs(target.config, target.world, None)
    shard = next(spec.shard for spec in specs if spec.role == Role.ADVERTISER)
    folder = str(party_folder(target.run_dir, "referee"))
    return {"shard": shard, "folder": folder, "classes": len(target.world.described.classes)}


def _folders(target: Target, parties: Sequence[PartyId]) -> dict[PartyId, str]:
    return {party: str(party_folder(target.run_dir, party).resolve()) for party in parties}


def _networks(target: Target) -> dict[PartyId, dict[str, Any]]:
    """Return how each party's networks are built, as the configuration tells everybody."""
    specs = [spec for spec in party_specs(target.config, target.world, None) if spec.role != Role.REFEREE]
    return {
        spec.party: {
            "bottom": spec.model.bottom,
            "top": spec.model.top,
            "role": spec.role.value,
            "width": spec.model.widths.get(spec.party, 0),
            "top_width": sum(spec.model.widths.values()),
            "classes": spec.classes,
        }
        for spec in specs
    }


def require_transcript(target: Target) -> None:
    """Refuse to attack a run whose transcript is not there."""
    for party in target.adversaries:
        folder = party_folder(target.run_dir, party) / "transcript"
        if not folder.is_dir() or not any(folder.iterdir()):
            raise UserError(
                "got no transcript, allowed a run recorded with record.every of 1 or more and record.keep: run",
                where=str(folder),
            )
