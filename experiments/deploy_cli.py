"""`vfl deploy`: the same configuration as separate processes that do not trust each other, over Flower."""

from __future__ import annotations

import re
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated

import typer

from experiments.commandline import SETTINGS, Json, PlainCommand, Sets, examples
from experiments.output import emit_json
from vfl.errors import UserError

HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?")
"""What goes into start scripts as it is, so nothing else does."""
Folder = Annotated[Path, typer.Argument(metavar="DIR", show_default=False)]

deploy_app = typer.Typer(
    help="Run one configuration as a Flower deployment: a SuperLink, and a SuperNode a party.",
    epilog=examples(
        "vfl deploy init configs/run/adult.yaml --out deployment", "vfl deploy party deployment/parties/ID"
    ),
    **SETTINGS,
)


@deploy_app.command(
    "init",
    cls=PlainCommand,
    epilog=examples(
        "vfl deploy init configs/run/adult.yaml --out deployment",
        "vfl deploy init --set data=breast_cancer --out deployment --address 127.0.0.1:9100",
    ),
)
def init(
    out: Annotated[Path, typer.Option(help="A new or empty directory.")],
    config: Annotated[Path | None, typer.Argument(metavar="[CONFIG]")] = None,
    sets: Sets = None,
    address: Annotated[str, typer.Option(help="HOST:PORT of the SuperLink; the ports after it are the nodes'.")] = (
        "127.0.0.1:9100"
    ),
    seeded: Annotated[
        bool, typer.Option("--seeded", help="Draw no secrets: streams follow `seed`, for the digest of `simulate`.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write what each machine is given: keys, certificates, start scripts, and a Flower app.

    Envelopes are sealed between parties whatever `wire.channel` says. DIR/README.md lists the commands to start with.
    """
    from experiments import deploy
    from experiments.config import load
    from experiments.folder import make, require_fresh
    from experiments.rundir import first_missing, undo

    host, _, port = address.rpartition(":")
    if not HOST.fullmatch(host) or not port.isdecimal() or not 1024 <= int(port) <= 65_000:
        allowed = "HOST:PORT of a name or an IPv4 address and a port from 1024 to 65000"
        raise UserError(f"got {address!r}, allowed {allowed}", where="--address")
    require_fresh(out, "name another one")
    asked = load(config, sets or ())
    begun = first_missing(out)
    make(out)
    try:
        with redirect_stdout(sys.stderr):
            made = deploy.init(asked, out, address, seeded)
    except BaseException:  # a half-written deployment must not look like a whole one
        undo(out, begun)
        raise
    if as_json:
        return emit_json(made)
    sys.stdout.write(f"{made['out']}: {', '.join(made['parties'])}; see README.md there\n")


@deploy_app.command("party", cls=PlainCommand, epilog=examples("vfl deploy party deployment/parties/publisher"))
def party(folder: Folder) -> None:
    """Be a party: answer its SuperNode's messages from one process that lives as long as the run.

    DIR is the party's folder. Without this process the party lives in its SuperNode's state, from message to message.
    """
    from experiments.deploy import open_party
    from parties.resident import reside

    reside(open_party(folder), folder.resolve())


@deploy_app.command("score", cls=PlainCommand, epilog=examples("vfl deploy score deployment --json"))
def score(folder: Folder, as_json: Json = False) -> None:
    """Show the referee's figures of a finished deployment.

    DIR is what `vfl deploy init` wrote, all of it in one place: every party's `party.json`, secrets included, the
    referee's folder and the advertiser's data are read.
    """
    from experiments.deploy import score as judged

    with redirect_stdout(sys.stderr):
        found = judged(folder)
    if as_json:
        return emit_json(found)
    for name, figures in found["utility"].items():
        sys.stdout.write(f"{name}  auc {figures['auc']:.4f}  log_loss {figures['log_loss']:.4f}\n")
    sys.stdout.write(f"digest  {found['digest']}\n")
