"""How long all registered attacks take on Adult: on recorded runs, and those that act, in a run of their own each."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experiments.bench.figures import Figure
from experiments.leakage import Target, attack_all, failure
from experiments.plan import open_world
from experiments.progress import Silent
from experiments.run import Shared, simulate
from experiments.schema import AttackSpec, Config
from experiments.threat import check_threat
from parties.isolate import Isolation
from vfl.attacks import Attack
from vfl.errors import PartyError
from vfl.registry import build, names
from vfl.types import Role

HINTS = {"labelled_rows": 100, "known_rows": 500, "prior": True, "scores": True, "victim_models": True}
ADULT: dict[str, Any] = {"data": "adult", "backend": "local", "references": [], "record": {"max_mb": 2048}}
PLAIN_SUM: dict[str, Any] = {
    "split": {
        "name": "columns",
        "publisher": ["age", "education_num", "capital_gain"],
        "advertiser": ["capital_loss", "hours_per_week", "education"],
    },
    "model": {"bottom": "linear", "top": "sum", "embedding_dim": 1},
}
"""The cut carries logits and the publisher holds numbers alone: for the attacks that are about such runs."""

ON_LOGITS = ("batch_inversion", "direct_label_inference", "equality_solving", "generative_regression", "residue")


@dataclass(slots=True)
class Clock(Silent):
    """Notes how long each attack took, from the end of the one before."""

    last: float = field(default_factory=time.perf_counter)
    taken: dict[str, float] = field(default_factory=dict[str, float])

    def advance(self, phase: str, done: int, note: str | float | None = None) -> None:
        """Note the end of an attack."""
        now = time.perf_counter()
        self.taken[str(note)], self.last = now - self.last, now


def measure() -> Iterator[Figure]:
    """Yield the seconds of each run, of each attack at its defaults, of marking them, and of all together.

    Raises `PartyError` for an attack without figures: a sum that lacks one would be none.
    """
    began = time.perf_counter()
    with Isolation() as isolation, tempfile.TemporaryDirectory(prefix="vfl-evaluation-") as folder:
        for run, changed in (("defaults", {}), ("plain sum", PLAIN_SUM)):
            place = Path(folder) / run
            yield _seconds(
                f"{run}/run", _play(Config.model_validate({**ADULT, **changed, "attack": []}), place, isolation)
            )
            for looks in Role.PUBLISHER, Role.ADVERTISER:
                asked = [name for name in _looking(looks) if (name in ON_LOGITS) == bool(changed)]
                config = Config.model_validate({**ADULT, **changed, "threat": _threat(looks)})
                yield from _attacked(run, Target(config, open_world(config), place), asked, isolation)
        for name in names("attack"):
            if _attack(name).needs.active:
                config = {**ADULT, "attack": [name], "threat": _threat(_side(name))}
                taken = _play(Config.model_validate(config), Path(folder) / name, isolation)
                yield _seconds(f"acting/{name}", taken)
    yield _seconds("all", time.perf_counter() - began)


def _play(config: Config, out: Path, isolation: Isolation) -> float:
    began, shared = time.perf_counter(), Shared(isolation, out.parent / "references", out.parent / "alignments")
    row = simulate(config, out, ray_address=None, resume=None, progress=Silent(), shared=shared)
    _complete(row["leakage"])
    return time.perf_counter() - began


def _attacked(run: str, target: Target, asked: Sequence[str], isolation: Isolation) -> Iterator[Figure]:
    specs = [AttackSpec(name=name) for name in asked]
    check_threat(target.config, target.world, specs)
    began, clock = time.perf_counter(), Clock()
    _complete(attack_all(target, specs, isolation, clock))
    for name, taken in clock.taken.items():
        yield _seconds(f"{run}/{name}", taken)
    told = "+".join(target.adversaries)
    yield _seconds(f"{run}/{told}/marks", time.perf_counter() - began - sum(clock.taken.values()))


def _complete(leakage: dict[str, Any]) -> None:
    for name, figures in leakage.items():
        if told := failure(figures):
            raise PartyError(f"attack {name}: {told}")


def _looking(role: Role) -> list[str]:
    return [name for name in names("attack") if _side(name) == role and not _attack(name).needs.active]


def _side(name: str) -> Role:
    """Return the side it is made from: who is told of a publisher's columns or networks is the advertiser."""
    needs = _attack(name).needs
    return Role.ADVERTISER if needs.known_rows or needs.victim_models else Role.PUBLISHER


def _attack(name: str) -> Attack:
    return build("attack", {"name": name})


def _threat(role: Role) -> dict[str, Any]:
    return {"adversaries": [role.value], "hints": HINTS}


def _seconds(name: str, taken: float) -> Figure:
    return Figure(f"evaluation/{name}", taken, "s", None, None, 1)
