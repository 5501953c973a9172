"""Attack a recorded run: an attack in a clean process that holds its view, the referee's marks in another."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.asked_needs import needs_of
from experiments.plan import World, adversaries, party_folder, party_specs
from experiments.progress import Progress
from experiments.schema import AttackSpec, Config
from experiments.threat import check_threat, check_took_part, victims
from parties.isolate import Bounds, Isolation, folders
from vfl.attacks import Needs
from vfl.errors import PartyError, ThreatError, UserError, VflError
from vfl.seeds import Seeds
from vfl.types import PartyId, Role

__all__ = ["Target", "attack_all", "check_threat", "check_took_part", "require_transcript"]

JOBS = "parties.judging"
GRANTED = ("labelled_rows", "known_rows", "prior", "scores", "victim_models")
FAILS = (PartyError, ThreatError)
"""Errors that cost one attack its figures and leave the others theirs."""

HEADLINES = ("damage", "asr", "leak_auc", "auc", "mae", "nmse", "accuracy")


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
    target: Target,
    attacks: Sequence[AttackSpec],
    isolation: Isolation,
    progress: Progress,
    spoils: tuple[type[VflError], ...] = FAILS,
) -> dict[str, Any]:
    """Return the figures of each attack by its key; of one that failed by an error among `spoils`, its `error`.

    The referee writes all grants in one job and marks all guesses in another; between them each attack has its own.
    Without an attack neither has anything to do, nor, where nothing is recorded, anything to read.
    """
    if not attacks:
        return {}
    progress.start("attack", len(attacks))
    with tempfile.TemporaryDirectory(prefix="vfl-attack-") as scratch:
        asked = [_Asked.of(target, spec, Path(scratch)) for spec in attacks]
        work = {**_truth(target), "victims": _folders(target, victims(target.config, target.world))}
        isolation.call(f"{JOBS}:hint", {**work, "grants": _grants(asked, Seeds(target.config.seed).scope("hints"))})
        failed: dict[str, Any] = {}
        for done, each in enumerate(asked, start=1):
            try:
                each.infer(target, isolation)
            except spoils as error:
                failed[each.key] = {"target": None, "error": f"it failed: {error}"}
            progress.advance("attack", done, each.key)
        guesses = {each.key: each.made(target) for each in asked if each.key not in failed}
        marked = isolation.call(f"{JOBS}:marks", {**work, "guesses": guesses, "networks": _networks(target)})
    progress.finish("attack")
    looking = {"adversaries": list(target.adversaries)}
    found: dict[str, Any] = {}
    for each in asked:
        figures = failed.get(each.key) or marked[each.key]
        told = {} if failure(figures) else {"labelled_rows": each.needs.labelled_rows, **looking}
        found[each.key] = {**figures, **told, "active": each.needs.active}
    return found


def failure(figures: Mapping[str, Any]) -> str | None:
    """Return why an attack has no figures; what it says of errors that it caused is a figure."""
    told = figures.get("error")
    return told if isinstance(told, str) else None


def unmarked(leakage: Mapping[str, Any], adversaries: Sequence[PartyId]) -> list[tuple[str, str]]:
    """Return the attacks that have no figure at all, and why."""
    reason = "no batch held rows of both classes that the adversary had not been told"
    if not adversaries:
        reason = "nobody takes part who could look"
    return [(key, failure(figures) or reason) for key, figures in leakage.items() if _headless(figures)]


def _headless(figures: Mapping[str, Any]) -> bool:
    return not any(isinstance(value, float | int) for key, value in figures.items() if key in HEADLINES)


@dataclass(frozen=True, slots=True)
class _Asked:
    """One attack that was asked for: what it needs, and where its grants and guesses are kept while it is marked."""

    spec: AttackSpec
    needs: Needs
    seed: int
    folder: Path

    @classmethod
    def of(cls, target: Target, spec: AttackSpec, scratch: Path) -> _Asked:
        return cls(spec, needs_of(spec), Seeds(target.config.seed).at("attack", spec.key), scratch)

    @property
    def key(self) -> str:
        return self.spec.key

    @property
    def hinted(self) -> bool:
        """Whether it is told any answer; one that is not would guess the same if all others were told it."""
        return bool(self.needs.labelled_rows or self.needs.known_rows)

    def grants(self) -> dict[str, dict[str, Any]]:
        """Return what is to be granted, by the folder it is written to: for the guess, and for its upper bound."""
        asked = {name: getattr(self.needs, name) for name in GRANTED}
        found = {str(self._grant(asked)): asked}
        if self.hinted:
            all_told = self._all_told()
            found[str(self._grant(all_told))] = all_told
        return found

    def infer(self, target: Target, isolation: Isolation) -> None:
        """Make the guess, and the one that knows every answer, in a confined process each."""
        for name, grant in self._guesses().items():
            _infer(target, self, isolation, grant, self._out(name))

    def made(self, target: Target) -> dict[str, Any]:
        """Return where the guesses are and what they are marked with."""
        seeds = Seeds(target.config.seed).scope("marks", self.key)
        files = {name: str(self._out(name) / "guess") for name in self._guesses()}
        grant = str(self._guesses()["guess"])
        return {"upper": files["guess"], **files, "grant": grant, "seeds": seeds}

    def _guesses(self) -> dict[str, Path]:
        given = self._grant({name: getattr(self.needs, name) for name in GRANTED})
        return {"guess": given, **({"upper": self._grant(self._all_told())} if self.hinted else {})}

    def _all_told(self) -> dict[str, Any]:
        asked = {name: getattr(self.needs, name) for name in GRANTED}
        return {**asked, "labelled_rows": None, "known_rows": None if self.needs.known_rows else 0}

    def _grant(self, asked: Mapping[str, Any]) -> Path:
        return self.folder / "grants" / "-".join(str(value) for value in asked.values())

    def _out(self, name: str) -> Path:
        return self.folder / "guesses" / self.key / name


def _grants(asked: Sequence[_Asked], seeds: Seeds) -> dict[str, dict[str, Any]]:
    """Return each grant once by its folder, which is made."""
    found = {place: grant for each in asked for place, grant in each.grants().items()}
    for place in found:
        Path(place).mkdir(parents=True)
    return {place: {**grant, "seeds": seeds} for place, grant in found.items()}


def _infer(target: Target, asked: _Asked, isolation: Isolation, grant: Path, out: Path) -> None:
    places = _folders(target, target.adversaries)
    out.mkdir(parents=True)
    seen = {
        "folders": list(places.values()),
        "parties": list(places),
        "classes": len(target.world.described.classes),
        "networks": _networks(target),
    }
    name = asked.spec.name
    module = name.partition(":")[0] if ":" in name else ""
    bounds = Bounds(read=(*places.values(), str(grant.resolve())), write=folders([out]), module=module)
    guess = str((out / "guess").resolve())
    work = {"attack": asked.spec.member, "view": seen, "grant": str(grant.resolve()), "seed": asked.seed, "out": guess}
    isolation.call("parties.inference:infer", work, bounds)


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
            "defenses": spec.defenses,
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
