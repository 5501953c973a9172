"""`vfl keys`: the identities that parties sign their greetings with."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from experiments.commandline import SETTINGS, Json, PlainCommand, examples
from experiments.output import emit_json

Folder = Annotated[Path, typer.Argument(metavar="DIR", show_default=False)]

keys_app = typer.Typer(
    help="Make the key pairs that parties sign with, or show the public ones.",
    epilog=examples("vfl keys init keys publisher advertiser referee", "vfl keys show keys"),
    **SETTINGS,
)


@keys_app.command(
    "init",
    cls=PlainCommand,
    epilog=examples("vfl keys init keys publisher", "vfl keys init keys publisher advertiser referee --days 30"),
)
def init(
    folder: Folder,
    parties: Annotated[list[str], typer.Argument(metavar="PARTY..", show_default=False)],
    days: Annotated[float, typer.Option(help="How long the public key counts: above 0, at most 3650.")] = 365.0,
    as_json: Json = False,
) -> None:
    """Make an Ed25519 key pair for each party.

    DIR/PARTY.key is for that party alone (mode 600) and is never copied; DIR/PARTY.pub goes to every other party. A run
    takes them with `--set wire.keys=DIR`; parties on machines of their own each make their own and swap public keys.
    """
    from vfl.identity import check_new, create

    for party in parties:  # all before the first is written
        check_new(folder, party, days)
    _show({party: create(folder, party, days) for party in parties}, as_json)


@keys_app.command("show", cls=PlainCommand, epilog=examples("vfl keys show keys", "vfl keys show keys --json"))
def show(folder: Folder, as_json: Json = False) -> None:
    """Show who is registered in DIR: fingerprints of public keys, and until when they count.

    Two parties compare the fingerprints by another way than they swapped the keys. Private keys are never shown.
    """
    from vfl.identity import load_registry

    _show(load_registry(folder), as_json)


def _show(registry: Any, as_json: bool) -> None:  # noqa: ANN401 - a Registry, whose module is imported late
    shown = {
        party: {
            "fingerprint": found.fingerprint,
            "expires": datetime.fromtimestamp(found.expires, UTC).isoformat(timespec="seconds"),
            "expired": found.expires < datetime.now(UTC).timestamp(),
        }
        for party, found in registry.items()
    }
    if as_json:
        return emit_json({"keys": shown})
    for party, found in shown.items():
        until = "EXPIRED" if found["expired"] else "until"
        sys.stdout.write(f"{party}  {found['fingerprint']}  {until} {found['expires']}\n")
