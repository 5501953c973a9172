"""A finished run as others read it: its row, its configuration, and the part that may be passed on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from experiments.problems import shown
from vfl.errors import UserError

CONFIG, ROW, ATTACKS = "config.yaml", "row.json", "attacks"
SHAREABLE = (CONFIG, "versions.json", "status.json", "steps.parquet", ROW, ATTACKS)
"""What holds no row-level value. All else (`parties/`, `referee/`) stays with the party it belongs to."""


def require_run(folder: Path) -> None:
    """Raise `UserError` where `folder` is no run directory."""
    if not folder.is_dir():
        raise UserError("no such run directory; check the path", where=str(folder))
    if not (folder / CONFIG).is_file():
        raise UserError(f"not a run directory (it has no {CONFIG}); name what `vfl simulate` wrote", where=str(folder))


def other_name(folder: Path) -> str:
    """Return what to do where `folder` is taken: only what is a run can be gone on with."""
    is_run = (folder / CONFIG).is_file()
    return f"name another one, or go on with it: --resume {folder}" if is_run else "name another one"


def require_fresh(folder: Path, advice: str, option: str = "--out") -> None:
    """Raise `UserError`, ending in `advice`, where something stands at `folder` already; an empty directory may."""
    if folder.is_dir() and not any(folder.iterdir()):
        return
    if folder.exists():
        kind = "a directory that is not empty" if folder.is_dir() else "a file"
        message = f"got {kind}, allowed a new or an empty directory; {advice}"
        raise UserError(message, key=str(folder), where=option)


def make(folder: Path, option: str = "--out") -> None:
    """Make a folder, which its owner alone may open, and those above it; raises `UserError` where that cannot be."""
    try:
        folder.mkdir(0o700, parents=True, exist_ok=True)
    except OSError as error:
        message = f"cannot be made ({error.strerror}); name another directory"
        raise UserError(message, key=str(folder), where=option) from None


def finished(folder: Path) -> bool:
    """Return whether the run in `folder` has come to its end: only then it has a row."""
    return (folder / ROW).is_file()


def read_row(folder: Path) -> dict[str, Any]:
    """Return the row of a finished run; raises `UserError` where there is none."""
    require_run(folder)
    if not finished(folder):
        advice = f"run vfl simulate --resume {folder}"
        raise UserError(f"the run has not finished (it has no {ROW}); {advice}", where=str(folder))
    return _read(folder / ROW)


def later_attacks(folder: Path) -> dict[str, Any]:
    """Return the leakage that attacks after the run found, by their names in the results."""
    return {path.stem: _read(path) for path in sorted((folder / ATTACKS).glob("*.json"))}


def copy_shareable(folder: Path, out: Path) -> None:
    """Copy the part of a run that may be passed on to `out`, which must be new or empty."""
    require_run(folder)
    require_fresh(out, "name another directory", "--shareable")
    make(out, "--shareable")
    for name in SHAREABLE:
        source = folder / name
        if source.is_dir():
            shutil.copytree(source, out / name)
        elif source.is_file():
            shutil.copyfile(source, out / name)


def _read(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"cannot be read ({type(error).__name__}); run the simulation again", where=str(path)) from None
    if not isinstance(value, dict):
        raise UserError(f"got {shown(value)}, allowed one JSON object; run the simulation again", where=str(path))
    return value
