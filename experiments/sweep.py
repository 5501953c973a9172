"""Run the trials of a sweep: plain Ray tasks over LocalGrid, in worker processes that stay warm from trial to trial.

All trials are resolved and checked before the first starts. A trial that ends, well or not, leaves its row; a sweep
killed at any moment goes on with the trials that have none. Each worker keeps one isolation for attacks and referee,
whose every job is a clean fork; trials that differ in neither data nor seed share references and private alignment.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

from experiments import results
from experiments.axes import Asked
from experiments.config import resolved
from experiments.folder import SHAREABLE, make, require_fresh
from experiments.problems import raise_all
from experiments.progress import Progress, Silent
from experiments.run import Shared, prepare, simulate
from experiments.schema import Config
from parties.isolate import Isolation
from parties.memory import forget_peak
from vfl.errors import UserError

GRAPH_BYTES = 2**20
"""Trials play in process and use no compiled graph; Ray wants a size for its buffers all the same."""
TRIALS, REFERENCES, ALIGNMENTS = "trials", "references", "alignments"


@dataclass(frozen=True, slots=True)
class Trial:
    """One trial as it will run; `key` is its run id, `label` what the axes set in it."""

    key: str
    config: Config
    label: str = ""


@dataclass(frozen=True, slots=True)
class Resolved:
    """A trial and what the axes set in it."""

    trial: Trial
    settings: Mapping[str, Any]


def resolve(asked: Sequence[Asked], where: str) -> list[Resolved]:
    """Return the trials, none twice, after every check a run makes; raises the mistakes of all of them together."""
    found: dict[str, Resolved] = {}
    errors: dict[str, UserError] = {}
    for each in asked:
        try:
            config, _, key = prepare(each.config)
            settings = dict(each.settings)
            found.setdefault(key, Resolved(Trial(key, config, _label(settings)), settings))
        except UserError as error:
            for one in getattr(error, "errors", (error,)):
                placed = one if one.where else one.at(where=where)
                errors.setdefault(str(placed), placed)
    raise_all(list(errors.values()))
    return list(found.values())


def _label(settings: Mapping[str, Any]) -> str:
    return " ".join(f"{key}={json.dumps(value, separators=(',', ':'))}" for key, value in settings.items())


def listed(trials: Sequence[Resolved]) -> list[dict[str, Any]]:
    """Return what a dry run shows of each trial."""
    return [{"trial": each.trial.key, "settings": dict(each.settings)} for each in trials]


@dataclass(frozen=True, slots=True)
class Workers:
    """Who runs trials: so many at once, of this machine or of the Ray cluster at `address` (`auto` or HOST:PORT).

    Machines of a cluster must see the sweep's directory and the data under the same paths.
    """

    count: int = 1
    address: str | None = None


def sweep(
    trials: Sequence[Trial], out: Path, workers: Workers, resume: bool, progress: Progress, text: str = ""
) -> dict[str, Any]:
    """Run what has no row yet and return the counts; `out` must be new or empty unless it is resumed.

    Trials that failed before are run again. `text` is the sweep file's, kept with the list of trials: rows that are
    there and of none of them stay, and are left out of tables and reports. Raises `UserError`, and writes nothing,
    where nothing was started.
    """
    if not resume:
        require_fresh(out, f"name another one, or go on with it: --resume --out {out}")
    status = results.known(out)
    left = [trial for trial in trials if status.get(trial.key) != "ok"]
    owns = bool(left) and _start(workers)
    try:
        make(out)
        results.enlist(out, [trial.key for trial in trials], text)
        failed = _follow(left, out, workers.count, progress)
    finally:
        if owns:
            _stop()
    for kept in (REFERENCES, ALIGNMENTS):
        shutil.rmtree(out / kept, ignore_errors=True)
    counts = {"trials": len(trials), "finished": len(trials) - failed, "failed": failed}
    return {**counts, "skipped": len(trials) - len(left), "out": str(out)}


def _follow(trials: Sequence[Trial], out: Path, count: int, progress: Progress) -> int:
    """Run trials, say how each ended, and return how many failed."""
    progress.start("sweep", len(trials))  # those of an earlier call took no time of this one
    labels, failed = {trial.key: trial.label for trial in trials}, 0
    width = max(map(len, labels.values()), default=0)
    for done, (key, error) in enumerate(_run_all(trials, out, count), start=1):
        failed += bool(error)
        progress.advance("sweep", done)
        progress.tell(f"{labels[key]:<{width}}  {results.summary(out, key)}")
    progress.finish("sweep")
    return failed


def _run_all(trials: Sequence[Trial], out: Path, count: int) -> Iterator[tuple[str, str]]:
    """Yield the key and the error of each trial as it ends; `count` of them run at once."""
    if not trials:
        return
    import ray

    task = ray.remote(num_cpus=1, max_retries=0)(run_trial)
    left, running = iter(trials), dict[Any, Trial]()
    while True:
        for trial in itertools.islice(left, count - len(running)):
            running[task.remote(trial.config, trial.key, str(out.resolve()))] = trial
        if not running:
            return
        (ready, *_), _ = ray.wait(list(running))
        trial = running.pop(ready)
        yield trial.key, _outcome(ready, trial, out)


def _stop() -> None:
    import ray

    ray.shutdown()


def _start(workers: Workers) -> bool:
    """Start Ray here, or join it where it is; returns whether this call did."""
    import ray

    if workers.address:
        from parties.ray import start_ray

        return start_ray(GRAPH_BYTES, workers.address)
    if ray.is_initialized():
        return False
    options: dict[str, Any] = {"include_dashboard": False, "log_to_driver": False, "logging_level": logging.ERROR}
    ray.init(address="local", num_cpus=workers.count, object_store_memory=128 * 2**20, **options)
    return True


def _outcome(call: Any, trial: Trial, out: Path) -> str:  # noqa: ANN401 - a Ray object reference
    """Return what went wrong in a trial, if anything; a worker that died wrote no row, so one is written here."""
    import ray
    from ray.exceptions import RayError

    try:
        return ray.get(call)
    except RayError as error:
        _clean(out / TRIALS / trial.key)
        told = f"the worker died: {type(error).__name__}"
        results.write(out, results.failed_row(trial.key, resolved(trial.config), told))
        return told


_warm: list[Isolation] = []
"""This worker's isolation, started by its first trial."""


def _isolation() -> Isolation:
    """Return this worker's isolation; one of which a process died is let go, so that its trial alone fails."""
    if _warm and not _warm[0].alive:
        _warm.pop().close()
    if not _warm:
        _warm.append(Isolation())
    return _warm[0]


def run_trial(config: Config, key: str, out: str) -> str:
    """Run one trial, write its row, and return its error, empty where there is none.

    Nothing but its shareable files stays of its run directory, however it ended.
    """
    folder = Path(out) / TRIALS / key
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    shared = Shared(_isolation(), Path(out) / REFERENCES, Path(out) / ALIGNMENTS)
    began = time.perf_counter()
    forget_peak()
    try:
        run = simulate(config, folder, ray_address=None, resume=None, progress=Silent(), shared=shared)
    except Exception as error:  # a trial that fails must not stop the others, whatever it failed of
        told = " ".join(f"{type(error).__name__}: {error}".split()).partition("; go on with vfl simulate")[0]
        row = {**results.failed_row(key, resolved(config), told), "wall_s": time.perf_counter() - began}
    else:
        told, row = "", results.row_of(key, resolved(config), run)
    _clean(folder)
    results.write(Path(out), row)
    return told


def _clean(folder: Path) -> None:
    """Remove what holds rows of anyone from a trial's directory."""
    for entry in folder.iterdir() if folder.is_dir() else ():
        if entry.name not in SHAREABLE:
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
