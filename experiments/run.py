"""One configuration -> one run directory, and attacks on it afterwards."""

from __future__ import annotations

import hashlib
import json
import mmap
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from experiments import config as configs
from experiments import rundir
from experiments.account import ledger
from experiments.adaptive import ADAPTIVE, adapted, afterwards
from experiments.crossings import crossings
from experiments.folder import read_row
from experiments.integrity import integrity
from experiments.leakage import (
    FAILS,
    Target,
    attack_all,
    check_threat,
    check_took_part,
    failure,
    require_transcript,
    unmarked,
)
from experiments.output import strict
from experiments.plan import (
    REFEREE,
    World,
    adversaries,
    check_transcript,
    coordinator_plan,
    faults,
    largest_body_bytes,
    open_world,
    party_folder,
    party_specs,
    with_credentials,
)
from experiments.problems import refusal
from experiments.progress import Progress
from experiments.schema import ADVERTISER, AttackSpec, Config
from experiments.starting import Started, beside_ray
from experiments.uncovered import uncovered
from parties.confine import landlock_abi
from parties.faults import faulty
from parties.isolate import Isolation
from parties.local import local_grid
from parties.spec import PartySpec
from parties.twin import TWIN
from vfl.compat_flwr import COORDINATOR_NODE, new_context
from vfl.coordinator import MANY_IDS, Fit, server_app
from vfl.coordinator import Progress as Fitted
from vfl.errors import ConfigError, InterruptedRunError, PartyError, PeekError, UserError
from vfl.grid import PartyGrid
from vfl.metrics.utility import LEAST_ROWS
from vfl.registry import find
from vfl.seeds import Seeds
from vfl.types import Kind, Pool

REFERENCES_DEPEND_ON = ("seed", "data", "holdout", "split", "align", "model", "train")
"""Sections of a configuration that the reference models are trained by."""

ALIGNMENT_DEPENDS_ON = ("seed", "data", "holdout", "split", "align")
"""Sections of a configuration that the parties align by."""

Prepared = tuple[Config, World, str]
"""A configuration as it will run, its data set cut, and its run id."""

GUESSABLE = 2**48
"""Seeds below this can be tried one by one, by code that has some machines and days."""

BETWEEN_S = 0.1
"""Seconds between two words to whoever watches."""


@dataclass(slots=True)
class RunWatcher:
    """Hears from the coordinator: shows progress, and keeps the run directory able to go on."""

    out: Path
    progress: Progress
    steps: int = 0
    told: float = field(default=0.0)

    def phase(self, name: str, steps: int) -> None:
        """Show a phase's beginning."""
        self.steps = steps
        rundir.write_status(self.out, name, 0, steps)
        self.progress.start(name, steps)

    def advance(self, name: str, done: int, loss: float | None) -> None:
        """Show how far a phase is, at most ten times a second."""
        now = time.monotonic()
        if done < self.steps and now - self.told < BETWEEN_S:
            return
        self.told = now
        rundir.write_status(self.out, name, done, self.steps)
        self.progress.advance(name, done, "" if loss is None else f"loss {loss:.4f}")
        if done >= self.steps:
            self.progress.finish(name)

    def checkpointed(self, progress: Fitted) -> None:
        """Note that the run can go on from here."""
        rundir.save_progress(self.out, progress)
        rundir.write_status(self.out, "train", progress.done, self.steps)


@dataclass(frozen=True, slots=True)
class Shared:
    """What the trials of one worker share: a warm isolation, and folders of the scores of references and alignments."""

    isolation: Isolation
    references: Path
    alignments: Path


def simulate(
    config: Config,
    out: Path | None,
    *,
    ray_address: str | None,
    resume: Path | None,
    progress: Progress,
    shared: Shared | None = None,
) -> dict[str, Any]:
    """Run a configuration to its end and return its row; `resume` goes on with an unfinished run directory.

    Raises `UserError` for what its user can mend, before anything is trained, leaving nothing behind; `PartyError`
    where a party failed, leaving a directory that can be resumed.
    """
    began, started = time.perf_counter(), Started()
    if config.backend == "ray" and ray_address is None:
        prepared, started = beside_ray(partial(prepare, config))
    else:
        prepared = prepare(config)
    try:
        return _simulate_in(out, prepared, _Call(ray_address, resume, began, shared, started), progress)
    finally:
        started.stop()


def _simulate_in(out: Path | None, prepared: Prepared, call: _Call, progress: Progress) -> dict[str, Any]:
    """Run what was prepared in its run directory, and leave none behind where nothing was trained."""
    (config, world, run_id), resume = prepared, call.resume
    if resume is not None:
        rundir.require_unchanged(resume, data_hash(world))
    made = None if out is None else rundir.first_missing(out)
    target = resume or rundir.fresh(out, run_id)
    try:
        if resume is None:
            (target / "config.yaml").write_text(configs.dump(config), encoding="utf-8")
            rundir.remember(target, run_id, data_hash(world))
        return _simulate(config, world, target, replace(call, run_id=run_id), progress)
    except UserError:
        if resume is None and not ((target / rundir.COORDINATOR_FILE).exists() or rundir.is_trained(target)):
            rundir.undo(target, target if out is None else made)
        raise
    except PartyError as error:
        raise type(error)(f"{error}; go on with vfl simulate --resume {target}") from error
    except KeyboardInterrupt:
        raise InterruptedRunError(f"interrupted; go on with vfl simulate --resume {target}") from None
    except OSError as error:
        advice = f"mend that, then go on with vfl simulate --resume {target}"
        raise PartyError(f"the run cannot write or read its files: {error.strerror or error}; {advice}") from error


def prepare(config: Config) -> Prepared:
    """Return the configuration as it will run, its data set cut, and its run id; raises `UserError` for any mistake."""
    config = adapted(config)
    world = open_world(config)
    config = settle(config, world)
    configs.check_members(config)
    check_threat(config, world, config.attack)
    check_transcript(config, world)
    return config, world, configs.run_id(config, data_hash(world), version("vfl-platform"))


def attack(run_dir: Path, entries: Sequence[Mapping[str, Any]], config: Config, progress: Progress) -> dict[str, Any]:
    """Attack a finished run from its transcript, without training; the run's row stays as it is.

    `config` is the run's own, with the threat model it is to be attacked under. Figures go to `RUN_DIR/attacks/`.
    """
    row = read_row(run_dir)
    config = adapted(config)
    world = open_world(config)
    rundir.require_unchanged(run_dir, data_hash(world))
    specs = afterwards(config, [AttackSpec.model_validate(entry) for entry in entries])
    if not specs:
        message = refusal(ADAPTIVE, "attacks, as no defense of this run declares one", "name an attack")
        raise ConfigError(message, key="attack")
    target = Target(config, world, run_dir)
    check_threat(config, world, specs)
    check_took_part(config, specs)
    require_transcript(target)
    with Isolation() as isolation:
        leakage = attack_all(target, specs, isolation, progress)
    threat = config.threat.model_dump(mode="json")
    for spec in specs:
        asked = {"attack": spec.model_dump(mode="json", by_alias=True), "threat": threat, "digest": row["digest"]}
        if failure(leakage[spec.key]) is None:
            rundir.write_json(run_dir / "attacks" / f"{spec.key}.json", {**strict(leakage[spec.key]), "asked": asked})
    failed = [f"{key}: {told}" for key, figures in leakage.items() if (told := failure(figures))]
    if failed:
        raise PartyError(f"attack {failed[0]}")
    return strict({"schema": configs.ROW_SCHEMA, "run_id": row["run_id"], "digest": row["digest"], "leakage": leakage})


def settle(config: Config, world: World) -> Config:
    """Return the configuration with what depends on the data filled in: no default attacks above two classes."""
    if len(world.described.classes) > 2 and "attack" not in config.model_fields_set:
        return config.model_copy(update={"attack": ()})
    return config


def data_hash(world: World) -> str:
    """Return the hash of what a run reads: the content of its files, the shape of its table and the cut.

    Files are mapped and not read: nothing of them stays in this process's memory.
    """
    seen = hashlib.sha256(repr((world.described, world.columns)).encode())
    for path in world.described.files:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as whole:
            seen.update(hashlib.sha256(whole).digest())
    return seen.hexdigest()


@dataclass(frozen=True, slots=True)
class _Call:
    ray_address: str | None
    resume: Path | None
    began: float
    shared: Shared | None
    started: Started
    run_id: str = ""


def _simulate(config: Config, world: World, out: Path, call: _Call, progress: Progress) -> dict[str, Any]:
    specs = with_credentials(config, party_specs(config, world, out))
    if call.shared is not None and getattr(find("align", str(config.aligner["name"])), "costly", False):
        kept = _kept_at(call.shared.alignments, ALIGNMENT_DEPENDS_ON, config, world)
        specs = [replace(spec, alignments=kept) for spec in specs]
    with Isolation() if call.shared is None else nullcontext(call.shared.isolation) as isolation:
        fitted, path = _train(config, world, specs, out, call, progress)
        rundir.write_steps(out, fitted.progress, config.train.round_rows)
        rundir.write_status(out, "reference", 0, 0)
        progress.start("reference", 0)
        if TWIN in config.references or fitted.absent:  # it also shows what going on without a publisher costs
            unsigned = [replace(spec, credentials=None) for spec in specs]
            place = str(party_folder(out, REFEREE) / TWIN)
            twin = {"specs": unsigned, "plan": coordinator_plan(config), "folder": place}
            isolation.call("parties.twin:train_twin", twin)
        shared = call.shared
        cache = None if shared is None else _kept_at(shared.references, REFERENCES_DEPEND_ON, config, world)
        figures = isolation.call("parties.judging:judge", _judging(config, specs, out, cache))
        progress.finish("reference")
        rundir.write_status(out, "attack", 0, len(config.attack))
        spoils = (*FAILS, PeekError)  # one that peeks is told of in the row, and costs nobody the training
        leakage = attack_all(Target(config, world, out), config.attack, isolation, progress, spoils)
    row = strict(_row(_Facts(config, world, out, call, path), fitted, figures, leakage))
    if config.record.keep == "marks":
        for spec in specs:
            shutil.rmtree(party_folder(out, spec.party) / "transcript", ignore_errors=True)
    rundir.write_json(out / "row.json", row)
    for name in (rundir.COORDINATOR_FILE, rundir.PREVIOUS_FILE):
        (out / name).unlink(missing_ok=True)
    steps = len(fitted.progress.losses)
    rundir.write_status(out, "done", steps, steps)
    return row


def _train(
    config: Config, world: World, specs: Sequence[PartySpec], out: Path, call: _Call, progress: Progress
) -> tuple[Fit, str]:
    saved = rundir.load_progress(out) if call.resume is not None else None
    if saved is None:
        rundir.clear_parties(out)
    fit = Fit(progress=saved or Fitted())
    threads = torch.get_num_threads()
    progress.start("start", 1)
    grid = _grid(config, world, specs, call.ray_address)
    progress.finish("start")
    try:
        app = server_app(coordinator_plan(config), fit, RunWatcher(out, progress), resume=saved is not None)
        app(grid, new_context(COORDINATOR_NODE))
        return fit, grid.path
    finally:
        grid.close()
        call.started.stop()
        torch.set_num_threads(threads)


def _grid(config: Config, world: World, specs: Sequence[PartySpec], ray_address: str | None) -> PartyGrid:
    if config.backend == "local":
        grid = local_grid(specs, config.transport)
    else:
        from parties.ray import ray_grid

        grid = ray_grid(
            specs, config.transport, largest_body_bytes(config, world), ray_address, config.faults.timeout_s
        )
    return faulty(grid, faults(config), Seeds(config.seed))


def _kept_at(folder: Path, sections: Sequence[str], config: Config, world: World) -> str:
    """Return where trials keep what they share: by the sections of a configuration that it depends on, and no more."""
    asked = {key: configs.resolved(config)[key] for key in sections}
    seen = json.dumps([asked, world.cut.overlap, data_hash(world), version("vfl-platform")], sort_keys=True)
    return str((folder / hashlib.sha256(seen.encode()).hexdigest()[:16]).resolve())


def _judging(config: Config, specs: Sequence[PartySpec], out: Path, cache: str | None) -> dict[str, Any]:
    seeds = Seeds(config.seed).scope("referee")
    folder = str(party_folder(out, REFEREE))
    players = [replace(spec, credentials=None) for spec in specs if spec.party != REFEREE]
    return {"specs": players, "folder": folder, "references": list(config.references), "seeds": seeds, "cache": cache}


@dataclass(frozen=True, slots=True)
class _Facts:
    config: Config
    world: World
    out: Path
    call: _Call
    path: str


def _row(facts: _Facts, fit: Fit, figures: Mapping[str, Any], leakage: Mapping[str, Any]) -> dict[str, Any]:
    described = facts.world.described
    advertiser = fit.reports[ADVERTISER]
    held = {key.removeprefix("held/"): int(count) for key, count in advertiser.items() if key.startswith("held/")}
    return {
        "schema": configs.ROW_SCHEMA,
        "run_id": facts.call.run_id,
        "seed": facts.config.seed,
        "backend": facts.config.backend,
        "digest": digest(fit),
        "version": version("vfl-platform"),
        "out": str(facts.out),
        "notes": _notes(facts, fit, figures["utility"], leakage),
        "data": {
            "name": facts.config.data.name,
            "sha256": rundir.data_of(facts.out),
            "synthetic": described.synthetic,
            "rows": described.rows,
            "classes": len(described.classes),
            "positives": figures["positives"],
            "base_rate": figures["base_rate"],
            "parties": {
                party: {"role": "advertiser" if party == ADVERTISER else "publisher", "columns": list(columns)}
                for party, columns in facts.world.columns.items()
            },
        },
        "alignment": {
            "aligned": sum(int(advertiser[pool]) for pool in ("train", "valid", "test")),
            "only": {party: held.get(party, 0) for party in facts.world.columns},
            "partial": {who: count for who, count in held.items() if "+" in who},
        },
        "utility": figures["utility"],
        "gain": figures["gain"],
        "method": {"name": facts.config.method.name, **figures["method"]},
        "leakage": dict(leakage),
        "privacy": {
            "ledger": ledger(facts.config, facts.world),
            "uncovered": uncovered(facts.config, facts.world),
            "wire": crossings(facts.config, facts.world, fit.closing),
        },
        "integrity": integrity(party_specs(facts.config, facts.world, None), fit.closing),
        "cost": _cost(facts, fit),
    }


def _guarded(config: Config) -> list[str]:
    said = {
        "warn": f"training passes {config.train.epochs} times over them, and click models overfit sparse ids from the "
        "second epoch on; compare with train.epochs=1",
        "stop": "train.epoch_guard=stop ended every phase after one pass",
        "reinit_embeddings": "train.epoch_guard=reinit_embeddings drew embedding tables anew before every later pass",
    }
    return [said[config.train.epoch_guard]] if config.train.epoch_guard in said else []


def digest(fit: Fit) -> str:
    """Return the digest of a run: SHA-256 over the chains of all edges, sorted by edge."""
    edges = {
        f"{party}>{key.removeprefix('chain/')}": link
        for party, closing in fit.closing.items()
        for key, link in closing.items()
        if key.startswith("chain/")
    }
    return hashlib.sha256("\n".join(f"{edge} {edges[edge]}" for edge in sorted(edges)).encode()).hexdigest()


def _cost(facts: _Facts, fit: Fit) -> dict[str, Any]:
    sent = {
        kind.value: sum(int(str(closing.get(f"bytes/{kind.value}", 0))) for closing in fit.closing.values())
        for kind in Kind
    }
    parties = [party for party in fit.closing if party != REFEREE]
    return {
        "wall_s": fit.progress.wall_s,
        "total_s": time.perf_counter() - facts.call.began,
        "steps": len(fit.progress.losses),
        "path": facts.path,
        "bytes": {kind: count for kind, count in sent.items() if count},
        "peak_rss_mb": {party: fit.closing[party]["peak_rss_mb"] for party in parties},
    }


def _done_without(fit: Fit, utility: Mapping[str, Any]) -> list[str]:
    """Return who stayed away from when on, and what the model is worth beside that of the same run with everyone."""
    if not fit.absent:
        return []
    said = [
        f"{party} stayed away from step {step} on: the mean embedding it last sent was used in its place"
        for party, step in fit.absent.items()
    ]
    without, whole = utility["test"]["auc"], utility[TWIN]["auc"]
    if without is not None and whole is not None:
        figures = f"test AUC {without:.4f}, and {whole:.4f} where everyone stays"
        said.append(f"the same run with everyone is utility.{TWIN}: {figures}; the absence costs {whole - without:.4f}")
    return said


def _notes(facts: _Facts, fit: Fit, utility: Mapping[str, Any], leakage: Mapping[str, Any]) -> list[str]:
    notes: list[str] = []
    config = facts.config
    if fit.largest_vocabulary >= MANY_IDS and config.train.epochs > 1:
        notes += [f"a column has {fit.largest_vocabulary} ids: {said}" for said in _guarded(config)]
    notes += _done_without(fit, utility)
    if fit.rows(Pool.TEST) < LEAST_ROWS:
        notes.append(f"fewer than {LEAST_ROWS} test rows: no intervals and no p; raise holdout.test")
    notes += [
        f"leakage.{key}: no figure: {reason}" for key, reason in unmarked(leakage, adversaries(config, facts.world))
    ]
    if not config.attack and len(facts.world.described.classes) > 2:
        notes.append(f"leakage: no default attack is defined for {len(facts.world.described.classes)} classes")
    notes += facts.world.described.notes
    if facts.world.described.synthetic:
        notes.append("the data are synthetic: no figure here says anything about real users")
    if len(facts.world.described.classes) > 2:
        notes.append("positives, base_rate and calibration_ratio are figures of two classes: null with more")
    notes += _unconfined(config, leakage)
    if config.backend == "local":
        notes.append("backend local: all parties share one process, so peak_rss_mb is that process for each of them")
    return notes


def _unconfined(config: Config, leakage: Mapping[str, Any]) -> list[str]:
    """Return what hostile code among a run's attacks could have got around."""
    notes: list[str] = []
    if leakage and not landlock_abi():
        notes.append("this kernel has no Landlock: attacks were held by Python's audit hook alone; trust their code")
    foreign = sorted(spec.name for spec in config.attack if ":" in spec.name)
    if leakage and foreign and config.seed < GUESSABLE:
        told = f"{', '.join(foreign)} could find seed {config.seed} by trying, and every stream of the run with it"
        notes.append(f"{told}: trust its code, or draw a seed of 62 bits (docs/threat-model.md)")
    return notes
