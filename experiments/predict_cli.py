"""`vfl predict`: the command."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated

import typer

from experiments.commandline import Json, examples
from experiments.output import emit_json
from vfl.errors import UserError

EPILOG = examples(
    "vfl predict runs/ID",
    "vfl predict runs/ID --absent publisher",
    "vfl predict runs/ID --file publisher=new_a.csv --file advertiser=new_b.csv --key user_id --out scores.csv --json",
)

WORTH_SAYING = 0.05
"""A share of values never seen in training above this is told; below it, it is what new rows bring."""


def predict(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN_DIR", show_default=False)],
    files: Annotated[
        list[str] | None, typer.Option("--file", metavar="PARTY=FILE", help="A party's new rows; one for each party.")
    ] = None,
    key: Annotated[str | None, typer.Option(help="The column that the files are joined on.")] = None,
    absent: Annotated[
        list[str] | None, typer.Option("--absent", metavar="PARTY", help="A publisher that brings nothing.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="A CSV file for the score of every row.")] = None,
    as_json: Json = False,
) -> None:
    """Score rows with a finished run's model, with every party or with one absent.

    Without --file the run's own test rows are scored. Files hold the columns the run was trained on; where the
    advertiser's has the label too, the AUC is shown, and with --absent what the party's absence costs.
    """
    from experiments.predict import Asked
    from experiments.predict import predict as score

    named = [text.partition("=") for text in files or ()]
    wrong = [party for party, equals, path in named if not (party and equals and path)]
    if wrong:
        raise UserError(f"got {wrong[0]!r}, allowed PARTY=FILE; name whose file it is", where="--file")
    asked = Asked({party: Path(path) for party, _, path in named}, key, tuple(absent or ()))
    with redirect_stdout(sys.stderr):
        found = score(run_dir, asked, out)
    if as_json:
        return emit_json(found)
    who = f" without {', '.join(found['absent'])}" if found["absent"] else ""
    known = "not known: the rows have no label" if found["auc"] is None else f"{found['auc']:.4f}"
    sys.stdout.write(f"{found['rows']} rows{who}: AUC {known}\n")
    if "with_everyone" in found and found["with_everyone"]["lost"] is not None:
        both = found["with_everyone"]
        sys.stdout.write(f"with everyone: AUC {both['auc']:.4f}; the absence costs {both['lost']:.4f}\n")
    for party, share in found["unseen"].items():
        if share > WORTH_SAYING:
            sys.stdout.write(f"{party}: {share:.0%} of its categorical values were in no training row\n")
