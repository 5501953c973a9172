"""`vfl report`: a sweep or a run as one file to read."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from experiments.commandline import Json, examples
from experiments.output import emit_json

EPILOG = examples(
    "vfl report runs/quick",
    "vfl report runs/quick --out quick.html",
    "vfl report runs/quick --format md --out quick.md",
)


def report(
    directory: Annotated[Path, typer.Argument(metavar="DIR", show_default=False)],
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="DIR/report.FORMAT otherwise.")] = None,
    wanted: Annotated[str, typer.Option("--format", help="html, md, csv or png.")] = "html",
    as_json: Json = False,
) -> None:
    """Write one file that says which defense to use, what still leaks and how sure that is.

    DIR is what `vfl sweep` or `vfl simulate` wrote, or a folder of runs. The HTML holds everything it needs: it can be
    mailed, and opens without a network.
    """
    from experiments.report import write
    from experiments.results import left_out

    file = write(directory, out, wanted)
    strange = left_out(directory)
    if strange:
        sys.stderr.write(f"vfl: {directory}/rows: {strange} rows are of no trial of this sweep and were left out\n")
    if as_json:
        return emit_json({"out": str(file), "format": wanted})
    sys.stdout.write(f"{file}\n")
