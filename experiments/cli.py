"""The command line, `vfl`. Heavy modules are imported inside commands: help and listings come at once."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import click
import typer

from experiments.commandline import SETTINGS as _SETTINGS
from experiments.commandline import Json, Sets
from experiments.commandline import PlainCommand as _PlainCommand
from experiments.commandline import examples as _examples
from experiments.data_cli import data_app
from experiments.deploy_cli import deploy_app
from experiments.keys_cli import keys_app
from experiments.output import emit_errors, emit_json, emit_line, strict
from experiments.predict_cli import EPILOG as _PREDICT
from experiments.predict_cli import predict
from experiments.report_cli import EPILOG as _REPORT
from experiments.report_cli import report
from vfl.errors import ConfigError, UserError, VflError

INTERRUPTED = 130
RunDir = Annotated[Path, typer.Argument(metavar="RUN_DIR", show_default=False)]

app = typer.Typer(
    name="vfl",
    help="Simulate vertical federated learning for advertising before two companies wire it up.",
    epilog=_examples(
        "vfl simulate", "vfl list defense", "vfl simulate --set defense.0.name=marvell", "vfl show runs/ID"
    ),
    context_settings={"help_option_names": ["-h", "--help"]},
    **_SETTINGS,
)
config_app = typer.Typer(
    help="Check a configuration, or print the schema of one.",
    epilog=_examples("vfl config check configs/run/adult.yaml", "vfl config schema > schema.json"),
    **_SETTINGS,
)
app.add_typer(config_app, name="config")
app.add_typer(data_app, name="data")
app.add_typer(keys_app, name="keys")
app.add_typer(deploy_app, name="deploy")
app.command("predict", cls=_PlainCommand, epilog=_PREDICT)(predict)
app.command("report", cls=_PlainCommand, epilog=_REPORT)(report)


@app.callback(invoke_without_command=True)
def start(
    context: typer.Context,
    show_version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Print the help where no command is given."""
    if show_version:
        sys.stdout.write(f"vfl {version('vfl-platform')}\n")
        raise typer.Exit
    if context.invoked_subcommand is None:
        sys.stdout.write(context.get_help() + "\n")


@app.command(
    cls=_PlainCommand,
    epilog=_examples(
        "vfl simulate",
        "vfl simulate configs/run/quick_local.yaml --seed 3 --out runs/third --json",
        "vfl simulate --set train.epochs=1 --set defense='[{name: marvell, s: 4}]'",
        "vfl simulate --ray-address auto",
        "vfl simulate --resume runs/third",
    ),
)
def simulate(  # noqa: PLR0913 - a command's parameters are its options
    config: Annotated[Path | None, typer.Argument(metavar="[CONFIG]")] = None,
    sets: Sets = None,
    backend: Annotated[str | None, typer.Option(help="ray or local; `backend` of the file otherwise.")] = None,
    ray_address: Annotated[str | None, typer.Option(help="A Ray cluster to join: auto or HOST:PORT.")] = None,
    seed: Annotated[int | None, typer.Option(help="`seed` of the file otherwise.")] = None,
    out: Annotated[Path | None, typer.Option(help="A new or empty directory; runs/RUN_ID otherwise.")] = None,
    resume: Annotated[Path | None, typer.Option(help="Go on with an unfinished run, from its own config.")] = None,
    as_json: Json = False,
) -> None:
    """Train one configuration; show gain, leakage and cost.

    The gain is what the partner's data adds over what the advertiser knows alone. CONFIG is a YAML file; without one
    the default run is made.
    """
    from experiments.config import load, origin_of
    from experiments.folder import CONFIG, finished, other_name, read_row, require_fresh, require_run

    if resume is not None:
        given = {"CONFIG": config, "--set": sets, "--backend": backend, "--seed": seed, "--out": out}
        _refuse_beside_resume(resume, [name for name, value in given.items() if value is not None and value != []])
        require_run(resume)
        if finished(resume):
            return _show_row(read_row(resume), as_json)
        config = resume / CONFIG
    if out is not None:
        require_fresh(out, other_name(out))
    asked = load(config, sets or (), seed=seed, backend=backend)
    if ray_address is not None and asked.backend != "ray":
        raise ConfigError(
            f"got backend {asked.backend}, allowed ray; leave it out", key=ray_address, where="--ray-address"
        )

    def run(progress: Any) -> dict[str, Any]:  # noqa: ANN401 - a Progress, whose module is imported late
        from experiments import run

        return run.simulate(asked, out, ray_address=ray_address, resume=resume, progress=progress)

    origin = origin_of(config, sets or (), {"seed": seed, "backend": backend})
    _show_row(_checked(asked, origin, run), as_json)


@app.command(
    cls=_PlainCommand,
    epilog=_examples(
        "vfl attack runs/ID --attack norm",
        "vfl attack runs/ID --attack direction --set attack.0.hints=10 --set threat.hints.labelled_rows=10 --json",
    ),
)
def attack(
    run_dir: RunDir,
    names: Annotated[list[str], typer.Option("--attack", metavar="NAME", help="An attack; may be repeated.")],
    sets: Sets = None,
    as_json: Json = False,
) -> None:
    """Attack a finished run without training it again.

    The attack reads the stored transcript. RUN_DIR is what `vfl simulate` wrote; its row stays as it is, and the
    figures go to RUN_DIR/attacks.
    Options of the attacks are set as `attack.N.option`, N counting `--attack` from 0, and the grant as `threat...`.
    """
    import json

    from experiments.config import load, origin_of
    from experiments.folder import CONFIG, read_row

    read_row(run_dir)
    for text in sets or ():
        if text.split("=")[0].strip().split(".")[0] not in ("attack", "threat"):
            raise ConfigError(f"got {text!r}, allowed keys below attack and threat; the run is trained", where="--set")
    chosen = [f"attack={json.dumps([{'name': name} for name in names])}", *(sets or ())]
    asked = load(run_dir / CONFIG, chosen)
    entries = [spec.model_dump(mode="json", by_alias=True) for spec in asked.attack]

    def run(progress: Any) -> dict[str, Any]:  # noqa: ANN401 - a Progress, whose module is imported late
        from experiments import run

        return run.attack(run_dir, entries, asked, progress)

    result = _checked(asked, origin_of(run_dir / CONFIG, chosen), run)
    if as_json:
        return emit_json(result)
    from rich.console import Console, Group

    from experiments.present import leakage_section

    Console().print(Group(*leakage_section(result["leakage"])), highlight=False)


@app.command(
    cls=_PlainCommand,
    epilog=_examples(
        "vfl sweep configs/sweep/quick.yaml --workers 2 --out runs/quick",
        "vfl sweep configs/sweep/quick.yaml --workers 2 --out runs/quick --resume",
        "vfl sweep configs/sweep/quick.yaml --out runs/quick --dry-run",
    ),
)
def sweep(  # noqa: PLR0913 - a command's parameters are its options
    config: Annotated[Path, typer.Argument(metavar="CONFIG", show_default=False)],
    out: Annotated[Path, typer.Option(help="A new or empty directory, or with --resume the one to go on with.")],
    workers: Annotated[int, typer.Option(min=1, help="Trials at once, a process each.")] = 1,
    ray_address: Annotated[str | None, typer.Option(help="A Ray cluster to run them on: auto or HOST:PORT.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a sweep; finished trials are kept.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check and list the trials; start none.")] = False,
    as_json: Json = False,
) -> None:
    """Run every trial of a sweep file.

    CONFIG is a YAML file with `base`, keys of a run, and `axes`, lists of values to try. One row a trial is kept in
    OUT/rows: read them with `experiments.results.load(OUT)`. Exit code 3 where a trial failed; its row says of what.
    """
    from experiments.axes import read_sweep
    from experiments.sweep import Workers, listed, resolve
    from experiments.sweep import sweep as run_sweep

    asked = read_sweep(config)
    with redirect_stdout(sys.stderr):
        trials = resolve(asked, str(config))
    if dry_run:
        return emit_json(listed(trials)) if as_json else _write_lines(listed(trials))
    from experiments.progress import on_stderr

    with redirect_stdout(sys.stderr), on_stderr() as progress:
        asked_of, text = Workers(workers, ray_address), config.read_text(encoding="utf-8")
        counts = run_sweep([each.trial for each in trials], out, asked_of, resume, progress, text)
    if as_json:
        emit_json(counts)
    else:
        sys.stdout.write(
            "{trials} trials: {finished} finished ({skipped} earlier), {failed} failed; rows in {out}/rows\n".format(
                **counts
            )
        )
    if counts["failed"]:
        raise typer.Exit(3)


@app.command(
    cls=_PlainCommand,
    epilog=_examples("vfl show runs/ID", "vfl show runs/ID --json", "vfl show runs/ID --shareable /tmp/for-them"),
)
def show(
    run_dir: RunDir,
    shareable: Annotated[
        Path | None, typer.Option(metavar="OUT", help="Copy the part that holds no row of anyone to OUT.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show a finished run and the attacks made since.

    RUN_DIR is what `vfl simulate` wrote.
    """
    from experiments.folder import copy_shareable, later_attacks, read_row

    row = read_row(run_dir)
    if shareable is not None:
        copy_shareable(run_dir, shareable)
        sys.stderr.write(f"copied the shareable part of {run_dir} to {shareable}\n")
    _show_row(row, as_json, later_attacks(run_dir))


@app.command(
    cls=_PlainCommand,
    epilog=_examples(
        "vfl account run.yaml",
        "vfl account --set defense='[{name: clipped_gaussian, noise_multiplier: 8}]' --json",
        "vfl account --noise-multiplier 4 --steps 10",
        "vfl account --target-epsilon 3 --steps 1000 --sample-rate 0.01 --batches-hidden",
    ),
)
def account(  # noqa: PLR0913 - a command's parameters are its options
    config: Annotated[Path | None, typer.Argument(metavar="[CONFIG]")] = None,
    sets: Sets = None,
    delta: Annotated[float, typer.Option(help="The chance that the guarantee leaves open.")] = 1e-5,
    noise_multiplier: Annotated[float | None, typer.Option(help="Noise std over sensitivity, of a plan.")] = None,
    target_epsilon: Annotated[float | None, typer.Option(help="Find the noise multiplier for this epsilon.")] = None,
    steps: Annotated[int, typer.Option(help="Releases about one row.")] = 1,
    sample_rate: Annotated[float, typer.Option(help="Chance of a row to be in a step's batch.")] = 1.0,
    batches_hidden: Annotated[
        bool, typer.Option("--batches-hidden", help="No adversary ever learns which rows a batch holds.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Compute what a plan guarantees before it is run.

    With CONFIG or --set: the ledger its defenses would leave. With --noise-multiplier or --target-epsilon: one Gaussian
    mechanism, by every accountant that applies.
    """
    from experiments import account as accounts

    if noise_multiplier is None and target_epsilon is None:
        from experiments.config import check_members, load, origin_of

        asked = load(config, sets or ())
        check_members(asked, origin_of(config, sets or ()))
        found = accounts.of_config(asked, delta)
    else:
        given = [name for name, value in (("CONFIG", config), ("--set", sets)) if value]
        mechanism = accounts.Mechanism(steps, sample_rate, delta, batches_hidden)
        found = accounts.of_mechanism(mechanism, noise_multiplier, target_epsilon, given)
    if as_json:
        return emit_json(found)
    sys.stdout.write("\n".join(accounts.lines(found)) + "\n")


@app.command(
    cls=_PlainCommand,
    epilog=_examples(
        "vfl align publisher.csv advertiser.csv --key user_id",
        "vfl align publisher.csv advertiser.csv --key user_id --out aligned --json",
    ),
)
def align(
    files: Annotated[list[Path], typer.Argument(metavar="A.csv B.csv ..", show_default=False)],
    key: Annotated[str, typer.Option(help="The column that holds the ids, of this name in every file.")],
    aligner: Annotated[str, typer.Option(metavar="NAME", help="One of `vfl list align`.")] = "ecdh_psi",
    out: Annotated[Path | None, typer.Option(help="A new or empty directory for the rows in common order.")] = None,
    as_json: Json = False,
) -> None:
    """Find the rows that files share by their ids, as the parties would.

    The last file is the advertiser's, the others are a publisher's each: CSV or TSV with a header, UTF-8, gzip too.
    OUT/PARTY.csv lists each party's shared rows; a line means the same entity in every file, row 0 is the first.
    """
    from experiments.align_files import align_files, summary
    from experiments.folder import require_fresh

    if len(files) < 2:
        raise UserError(f"got {len(files)} file, allowed two or more; name the advertiser's last", where="align")
    if out is not None:
        require_fresh(out, "name another one")
    with redirect_stdout(sys.stderr):
        result = align_files(files, key, aligner, out)
    if as_json:
        return emit_json(result)
    sys.stdout.write(f"{summary(result)}\n")


@app.command("list", cls=_PlainCommand, epilog=_examples("vfl list", "vfl list defense", "vfl list attack --json"))
def list_members(
    family: Annotated[str | None, typer.Argument(metavar="[FAMILY]")] = None,
    as_json: Json = False,
) -> None:
    """List what can be named in a configuration.

    FAMILY is one of data, align, impute, model, method, defense, attack, metric; without one all are listed.
    """
    from vfl.registry import FAMILIES, entries

    listed = {name: entries(name) for name in ([family] if family else FAMILIES)}
    if as_json:
        plain = {name: [asdict(entry) for entry in found] for name, found in listed.items()}
        return emit_json(plain[family] if family else plain)
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for column in ("name", "summary", "reference") if family else ("family", "name", "summary"):
        table.add_column(column, overflow="fold", no_wrap=column in ("family", "name"))
    for name, found in listed.items():
        for place, entry in enumerate(found):
            told = (entry.name, entry.summary)
            table.add_row(*((*told, entry.reference) if family else (name if place == 0 else "", *told)))
    Console().print(table, highlight=False, markup=False)


@config_app.command(
    "check",
    cls=_PlainCommand,
    epilog=_examples("vfl config check configs/run/adult.yaml", "vfl config check run.yaml --set train.lr=1e-2 --json"),
)
def check(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", show_default=False)],
    sets: Sets = None,
    as_json: Json = False,
) -> None:
    """Check a configuration as a run would before it starts; print it with all defaults filled in.

    CONFIG is a YAML file. The files of its data set are looked at, so they must be there.
    """
    from experiments.config import check_members, dump, load, origin_of, resolved
    from experiments.problems import placed

    asked, origin = load(config, sets or ()), origin_of(config, sets or ())
    check_members(asked, origin)
    from experiments.run import prepare

    try:
        with redirect_stdout(sys.stderr):
            prepare(asked)
    except UserError as error:
        raise placed(error, origin.where) from error
    if as_json:
        return emit_json({"ok": True, "config": resolved(asked)})
    sys.stderr.write(f"{config}: ok\n")
    sys.stdout.write(dump(asked))


@config_app.command("schema", cls=_PlainCommand, epilog=_examples("vfl config schema > schema.json"))
def schema(as_json: Json = False) -> None:
    """Print the JSON schema of a configuration file; `--json` changes nothing."""
    from experiments.config import json_schema

    del as_json
    emit_json(json_schema())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `vfl` and return its exit code: 0 ok, 2 a user error, 3 a failed party, 130 interrupted.

    Errors raised on purpose become one line each on stderr; only an unexpected one leaves as a traceback.
    """
    command = typer.main.get_command(app)
    try:
        code = command.main(arguments, prog_name="vfl", standalone_mode=False)
    except VflError as error:
        emit_errors(error)
        return error.exit_code
    except click.ClickException as error:
        emit_line(_usage(error))
        return 2
    except (click.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    if code == INTERRUPTED:
        emit_line("interrupted")
    return code if isinstance(code, int) else 0


def _usage(error: click.ClickException) -> str:
    context = error.ctx if isinstance(error, click.UsageError) else None
    message = error.format_message().rstrip(".")
    if context is None:
        return message
    where = context.command_path.removeprefix("vfl").strip()
    return f"{where + ': ' if where else ''}{message}; see {context.command_path} --help"


def _write_lines(trials: Sequence[dict[str, Any]]) -> None:
    import json

    for each in trials:
        told = "  ".join(f"{key}={json.dumps(value)}" for key, value in each["settings"].items())
        sys.stdout.write(f"{each['trial']}  {told}\n")


def _refuse_beside_resume(resume: Path, given: Sequence[str]) -> None:
    if given:
        advice = f"a run goes on from {resume}/config.yaml; leave out {' and '.join(given)}"
        raise UserError(f"got {', '.join(given)} beside it, allowed --ray-address; {advice}", where="--resume")


def _checked(asked: Any, origin: Any, run: Any) -> dict[str, Any]:  # noqa: ANN401 - their modules are imported late
    """Build every member, then run; what anything writes to stdout meanwhile goes to stderr."""
    from experiments.config import check_members
    from experiments.problems import placed
    from experiments.progress import on_stderr

    try:
        with redirect_stdout(sys.stderr):
            check_members(asked, origin)
            with on_stderr() as progress:
                return run(progress)
    except UserError as error:
        raise placed(error, origin.where) from error


def _show_row(row: dict[str, Any], as_json: bool, later: dict[str, Any] | None = None) -> None:
    if as_json:
        return emit_json(row)
    from rich.console import Console

    from experiments import present

    present.show(strict(row), Console(), later)


if __name__ == "__main__":
    sys.exit(main())
