"""`vfl data`: list data sets, describe one, show how it is cut, generate synthetic data, fetch files."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated, Any

import typer

from experiments.commandline import SETTINGS, Json, PlainCommand, Sets, examples
from experiments.output import emit_json

Name = Annotated[str | None, typer.Argument(metavar="[NAME]", help="A data set, as `data.name`.")]
ConfigFile = Annotated[Path | None, typer.Option("--config", metavar="FILE", help="A YAML file to start from.")]

data_app = typer.Typer(
    help="List, describe, cut, generate and fetch data sets.",
    epilog=examples("vfl data list", "vfl data describe adult", "vfl data fetch mnist"),
    **SETTINGS,
)


@data_app.command("list", cls=PlainCommand, epilog=examples("vfl data list", "vfl data list --json"))
def list_sets(as_json: Json = False) -> None:
    """List data sets, and for each whose files are absent which file goes where."""
    from experiments.data_tables import listing
    from experiments.roots import data_root

    found = listing(data_root())
    if as_json:
        return emit_json(found)
    width = max(len(entry["name"]) for entry in found)
    for entry in found:
        told = entry["note"] or f"{entry['rows']:,} rows; {entry['summary']}"
        sys.stdout.write(f"{entry['name']:<{width}}  {told}\n")


@data_app.command(
    cls=PlainCommand,
    epilog=examples(
        "vfl data describe adult",
        "vfl data describe csv --set data.publisher=a.csv --set data.advertiser=b.csv --set data.key=id "
        "--set data.label=y",
    ),
)
def describe(name: Name = None, config: ConfigFile = None, sets: Sets = None, as_json: Json = False) -> None:
    """Show rows, classes and columns of a data set, with the type that each column is taken for."""
    from experiments.data_tables import description

    found = _from_config(description, name, config, sets)
    if as_json:
        return emit_json(found)
    classes = ", ".join(f"{label}: {count:,}" for label, count in found["classes"].items())
    kind = "synthetic, " if found["synthetic"] else ""
    lines = [f"{found['name']}: {kind}{found['rows']:,} rows, label {found['label']} ({classes})", *found["notes"]]
    for party, held in found["parties"].items():
        lines.append(f"{party}: {held['rows']:,} rows, {len(held['columns'])} columns")
        for column, told in list(held["columns"].items())[:40]:
            lines.append(f"  {column}: {told['type']}, {told['distinct']:,} values, {told['missing']:.1%} missing")
        if len(held["columns"]) > 40:
            lines.append(f"  and {len(held['columns']) - 40} more; --json shows all")
    sys.stdout.write("\n".join(lines) + "\n")


@data_app.command(
    cls=PlainCommand,
    epilog=examples(
        "vfl data split adult --set align.overlap=0.3",
        "vfl data split adult --set split='{name: importance, alpha: 0.5, parties: 4}' --out cut",
        "vfl data split synthetic_ads --set holdout.by='{time: click_ts}'",
    ),
)
def split(
    name: Name = None,
    config: ConfigFile = None,
    sets: Sets = None,
    out: Annotated[Path | None, typer.Option(help="A new or empty directory for each party's rows.")] = None,
    as_json: Json = False,
) -> None:
    """Show how a configuration cuts a data set between parties and pools; with --out write each party's file."""
    from experiments.data_tables import cutting
    from experiments.folder import require_fresh

    if out is not None:
        require_fresh(out, "name another one")
    found = _from_config(lambda asked: cutting(asked, out), name, config, sets)
    if as_json:
        return emit_json(found)
    pools = ", ".join(f"{pool} {count:,}" for pool, count in found["pools"].items())
    lines = [f"{found['name']}: {pools}; overlap {found['overlap']:g}"]
    lines += [
        f"{party}: {held['rows']:,} rows, {', '.join(held['columns'])}" for party, held in found["parties"].items()
    ]
    sys.stdout.write("\n".join(lines) + "\n")


@data_app.command(
    cls=PlainCommand,
    epilog=examples("vfl data generate ads", "vfl data generate ads --set rows=10000000 --set cvr=0.005"),
)
def generate(
    out: Annotated[Path, typer.Argument(metavar="OUT", show_default=False)],
    overlap: Annotated[float, typer.Option(metavar="SHARE", help="Of the rows, in both parties' files.")] = 1.0,
    sets: Sets = None,
    as_json: Json = False,
) -> None:
    """Write synthetic advertising data to parquet files in OUT: a table a party, and the truth beside them.

    Each --set is an option of `synthetic_ads`, such as rows, cvr, seed, users, items or signal. OUT is a new or empty
    directory; rows are written in blocks, so memory stays small.
    """
    from experiments.config import read_set
    from experiments.data_tables import generate as write
    from experiments.folder import require_fresh

    require_fresh(out, "name another one")
    found = write(dict(read_set(text) for text in sets or ()), out, overlap)
    if as_json:
        return emit_json(found)
    lines = [f"synthetic: {found['rows']:,} rows"] + [f"{name}: {path}" for name, path in found["files"].items()]
    sys.stdout.write("\n".join(lines) + "\n")


@data_app.command(cls=PlainCommand, epilog=examples("vfl data fetch mnist", "vfl data fetch fate --json"))
def fetch(
    name: Annotated[str, typer.Argument(metavar="NAME", show_default=False)],
    as_json: Json = False,
) -> None:
    """Download a data set's files from their authors, with checksums, into VFL_DATA or the user's cache.

    Sets whose publisher asks for an account are not downloaded: one line then says which file to put where.
    """
    from experiments.fetching import fetch as bring
    from experiments.roots import data_root

    with redirect_stdout(sys.stderr):
        found = bring(name, data_root())
    if as_json:
        return emit_json(found)
    sys.stdout.write("".join(f"{path}\n" for path in found["files"]))


def _from_config(work: Any, name: str | None, config: Path | None, sets: list[str] | None) -> dict[str, Any]:  # noqa: ANN401 - a function of a Config, whose module is imported late
    from experiments.config import load, origin_of
    from experiments.problems import placed
    from vfl.errors import UserError

    chosen = [*([f"data.name={name}"] if name else []), *(sets or ())]
    asked = load(config, chosen)
    try:
        with redirect_stdout(sys.stderr):
            return work(asked)
    except UserError as error:
        raise placed(error, origin_of(config, chosen).where) from error
