"""`vfl report`: rows of a sweep or a run -> one file that a person can read and pass on. Reads rows, nothing else."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from matplotlib.image import imread, imsave

from experiments import results
from experiments.reporting import page
from experiments.reporting.figures import Drawn
from vfl.errors import UserError
from vfl.whole import write_whole

FORMATS = ("html", "md", "csv", "png")


def write(path: Path, out: Path | None, wanted: str) -> Path:
    """Write the report of a sweep or run directory and return its file: `out`, or `report.FORMAT` in the directory.

    Raises `UserError` where there is no finished trial, or the file cannot be written.
    """
    if wanted not in FORMATS:
        raise UserError(f"got {wanted!r}, allowed {', '.join(FORMATS)}; choose one", where="--format")
    rows = results.rows(path)
    if not any(row["status"] == "ok" for row in rows):
        raise UserError(
            f"got {len(rows)} failed trials and none that finished, allowed one or more; see their `error`",
            where=str(path),
        )
    report = page.of_rows(rows, path.resolve().name)
    target = path / f"report.{wanted}" if out is None else out
    content = _sheet(report) if wanted == "png" else _text(report, wanted).encode()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_whole(target, content)
    except OSError as error:
        raise UserError(f"cannot be written ({error.strerror}); name another file", where=str(target)) from None
    return target


def _text(report: page.Report, wanted: str) -> str:
    return {"html": page.html, "md": page.markdown, "csv": page.comma_separated}[wanted](report)


def _sheet(report: page.Report) -> bytes:
    """Return all figures with their titles, one below the other, on white."""
    pictures = [_picture(drawn) for drawn in page.drawings(report)]
    if not pictures:
        raise UserError("got no figure to draw, allowed rows with figures; write --format html", where="--format")
    wide = max(picture.shape[1] for picture in pictures)
    padded = [
        np.pad(picture, ((0, 30), (0, wide - picture.shape[1]), (0, 0)), constant_values=255) for picture in pictures
    ]
    stream = io.BytesIO()
    imsave(stream, np.concatenate(padded), format="png")
    return stream.getvalue()


def _picture(drawn: Drawn) -> np.ndarray:
    stream = io.BytesIO()
    drawn.figure.suptitle(drawn.title, x=0.01, ha="left", fontsize=10, fontweight="bold")
    drawn.figure.savefig(stream, format="png", dpi=144, facecolor="white")
    stream.seek(0)
    return (imread(stream, format="png")[..., :3] * 255).round().astype(np.uint8)
