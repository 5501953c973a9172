"""A run directory as a run writes it: whole files, where it stands, and what it needs to go on."""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.folder import make, other_name, require_fresh
from vfl.coordinator import Progress as Fitted
from vfl.errors import UserError
from vfl.whole import write_whole

COORDINATOR_FILE, PREVIOUS_FILE = "coordinator.json", "coordinator-previous.json"
VERSIONS, STATUS = "versions.json", "status.json"
LEAST_ROWS = 32
"""Rows that a training loss in the shareable part is over at least."""
SAME = ("vfl-platform", "torch")
"""What a run cannot change in between: another version may compute something else."""
PACKAGES = ("vfl-platform", "torch", "flwr", "ray", "numpy", "pandas", "opacus", "cryptography")


def fresh(out: Path | None, run_id: str) -> Path:
    """Make and return the run directory: `out`, which must be new or empty, or the first free `runs/RUN_ID[-N]`."""
    if out is not None:
        require_fresh(out, other_name(out))
        make(out)
        return out
    for number in range(1, 10_000):
        candidate = Path("runs") / (run_id if number == 1 else f"{run_id}-{number}")
        try:
            candidate.mkdir(0o700, parents=True)
        except FileExistsError:
            continue
        return candidate
    raise UserError("got 10,000 runs of one configuration under runs/, allowed fewer; name a folder", where="--out")


def first_missing(folder: Path) -> Path | None:
    """Return the topmost folder of a path that is not there yet, `None` where all are."""
    return next((path for path in (*reversed(folder.parents), folder) if not path.exists()), None)


def undo(folder: Path, made: Path | None) -> None:
    """Remove what was written into `folder`, and the folders that were made for it from `made` on."""
    if made is not None:
        return shutil.rmtree(made)
    for entry in folder.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def write_json(path: Path, value: object) -> None:
    """Write strict JSON, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(value, indent=2, allow_nan=False).encode() + b"\n")


def write_status(out: Path, phase: str, step: int, steps: int) -> None:
    """Say where the run stands, for whoever watches the directory."""
    write_json(out / STATUS, {"phase": phase, "step": step, "steps": steps, "updated": time.time()})


def is_trained(out: Path) -> bool:
    """Return whether the run in `out` has trained to its end: what comes after can be mended without training again."""
    path = out / STATUS
    return path.exists() and json.loads(path.read_text(encoding="utf-8"))["phase"] in ("reference", "attack", "done")


def write_steps(out: Path, fitted: Fitted, batch_size: int) -> None:
    """Write the training loss, and the validation loss where an epoch ended, by the number of the step.

    Losses of small batches are means over the steps up to this one that hold `LEAST_ROWS` rows: the file may be passed
    on, and the loss of one row tells its label.
    """
    group = -(-LEAST_ROWS // batch_size)
    losses = pd.Series(fitted.losses, dtype="float64", index=range(1, len(fitted.losses) + 1))
    means = losses.rolling(group, min_periods=group).mean().iloc[group - 1 :: group]
    valid = pd.Series(fitted.valid, dtype="float64")
    frame = pd.DataFrame({"loss": means, "valid_loss": valid}).rename_axis("step").reset_index()
    frame.to_parquet(out / "steps.parquet", index=False)


def save_progress(out: Path, fitted: Fitted) -> None:
    """Write all the coordinator needs to go on from the parties' checkpoints of this step; the one before is kept."""
    path = out / COORDINATOR_FILE
    if path.exists():
        path.replace(out / PREVIOUS_FILE)
    fields: dict[str, Any] = {name: getattr(fitted, name) for name in ("step", "done", "losses", "wall_s", "absent")}
    fields["valid"] = {str(step): loss for step, loss in fitted.valid.items()}
    write_json(path, {**fields, "sha256": _checksum(fields)})


def load_progress(out: Path) -> Fitted | None:
    """Return what `save_progress` wrote, last or else the time before; `None` where the run has no checkpoint yet."""
    path = next((path for path in (out / COORDINATOR_FILE, out / PREVIOUS_FILE) if path.exists()), None)
    if path is None:
        return None
    try:
        fields: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if fields.pop("sha256") != _checksum(fields):
            raise ValueError("checksum")
        fields["valid"] = {int(step): loss for step, loss in fields["valid"].items()}
        return Fitted(**fields)
    except (OSError, ValueError, KeyError, TypeError) as error:
        advice = "delete it to go on from the checkpoint before, or to start the run again where there is none"
        raise UserError(f"is not as it was written ({type(error).__name__}); {advice}", where=str(path)) from None


def clear_progress(out: Path) -> None:
    """Remove what `save_progress` wrote: the run has ended, and the next one begins at its beginning."""
    for name in (COORDINATOR_FILE, PREVIOUS_FILE):
        (out / name).unlink(missing_ok=True)


def _checksum(fields: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def remember(out: Path, run_id: str, data: str) -> None:
    """Note what the run is made of: versions of everything, its id and the content of what it reads."""
    write_json(out / VERSIONS, {**versions(), "run_id": run_id, "data": data})


def data_of(out: Path) -> str:
    """Return the hash of what the run reads, as it was noted when the run began."""
    return str(json.loads((out / VERSIONS).read_text(encoding="utf-8"))["data"])


def require_unchanged(out: Path, data: str) -> None:
    """Raise `UserError` where the run's data, or the package, are no longer those that the run began with."""
    path = out / VERSIONS
    try:
        noted = json.loads(path.read_text(encoding="utf-8"))
        before = {key: noted[key] for key in ("data", *SAME)}
    except (OSError, ValueError, KeyError, TypeError) as error:
        message = f"cannot be read ({type(error).__name__}); start the run again in a new directory"
        raise UserError(message, where=str(path)) from None
    now = {"data": data, **versions()}
    for key, value in before.items():
        if now[key] != value:
            got = "data that changed since the run began" if key == "data" else f"{key} {now[key]}, the run had {value}"
            raise UserError(f"got {got}, allowed the same; bring it back or start a new run", where=str(out))


def clear_parties(out: Path) -> None:
    """Remove what parties wrote: the run starts again from its beginning."""
    for name in ("parties", "referee"):
        shutil.rmtree(out / name, ignore_errors=True)


def versions() -> Mapping[str, str]:
    """Return the versions of everything a result depends on."""
    found = {name: version(name) for name in PACKAGES}
    return {"python": platform.python_version(), "machine": platform.machine(), **found}
