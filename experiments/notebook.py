"""Build a notebook: `python -m experiments.notebook leakage_over_training --out built` executes its source to .ipynb.

Sources are Python in cells (jupytext's `py:percent`) in `experiments/notebooks/`; without a name all are built.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from vfl.errors import UserError

SOURCES = Path(__file__).parent / "notebooks"
LONGEST_S = 1800


def names() -> list[str]:
    """Return the names of all notebooks."""
    return sorted(path.stem for path in SOURCES.glob("*.py"))


def build(name: str, out: Path) -> Path:
    """Execute a notebook in the folder `out`, write it there with its outputs, and return its file.

    Raises `UserError` for a name that none has, or where the packages of the `dev` extra are missing.
    """
    source = SOURCES / f"{name}.py"
    if not source.is_file():
        raise UserError(f"got {name!r}, allowed {', '.join(names())}; choose one", where="notebook")
    try:
        import jupytext
        import nbclient
        import nbformat
    except ImportError as error:
        raise UserError(f"got no package {error.name!r}; pip install 'vfl-platform[dev]'", where="notebook") from None
    out.mkdir(parents=True, exist_ok=True)
    notebook = jupytext.read(source, fmt="py:percent")
    nbclient.NotebookClient(notebook, timeout=LONGEST_S, resources={"metadata": {"path": str(out)}}).execute()
    path = out / f"{name}.ipynb"
    nbformat.write(notebook, path)
    return path


def main(arguments: Sequence[str] | None = None) -> int:
    """Build what is named; returns 0, or 2 for a name that none has."""
    parser = argparse.ArgumentParser(prog="python -m experiments.notebook", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(names())}; all without one")
    parser.add_argument("--out", type=Path, default=Path("notebooks"), help="folder of the .ipynb files")
    asked = parser.parse_args(arguments)
    try:
        for name in asked.names or names():
            sys.stdout.write(f"{build(name, asked.out)}\n")
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
