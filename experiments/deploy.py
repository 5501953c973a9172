"""A Flower deployment of one configuration: what each machine is given, the coordinator's app, and the run's end.

`init` writes a folder for the coordinator's machine and one for each party's. A party's folder holds what it alone may
know: where its own data are, its keys and its random streams. The app that everyone runs holds no path and no secret.
"""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from experiments import config as configs
from experiments.asked_needs import needs_of
from experiments.certificates import authority, node_key, server_certificate
from experiments.output import strict
from experiments.plan import REFEREE, coordinator_plan, open_world, party_specs, recut
from experiments.rundir import clear_progress, load_progress, save_progress, write_json
from experiments.schema import Config
from parties.flower import FlowerCarrier
from parties.messenger import PARTY_FILE, SOCKET
from parties.spec import PartySpec
from parties.spec_file import read, write
from vfl import identity
from vfl.coordinator import Coordinator, Fit, Plan, Progress
from vfl.errors import ConfigError, UserError, VflError
from vfl.grid import PartyGrid, Roster
from vfl.seeds import Seeds
from vfl.types import Hop, Kind, PartyId, Phase, Pool, Role

FIT_FILE, FAILED_FILE, CONFIG_FILE = "fit.json", "failed.txt", "config.yaml"
APP = "app"
SOCKET_NAME = 107
"""The longest name of a Unix socket that Linux takes."""
README = """# A Flower deployment of one run

`superlink/` is for the coordinator's machine, `parties/ID/` for that party's alone, `app/` for whoever starts the run.
Each `start.sh` runs in the foreground; start the SuperLink first. Here all of them use the loopback interface; for
machines apart, change the address in the scripts and make the certificate for its name.

    superlink/start.sh          # the SuperLink: TLS, and SuperNodes only with a registered key
    ./register.sh               # registers each party's SuperNode key, once
    parties/ID/party.sh         # the party itself: a process that lives as long as the run
    parties/ID/start.sh         # its SuperNode; `start.sh stock` needs no party.sh
    ./run.sh                    # trains; the result is in coordinator/fit.json, and what ended it in failed.txt

A party that dies may be started again while the run waits for it (`faults.timeout_s`, `faults.restarts`): all go on
from the last checkpoint. Where it stays away run.sh ends with exit code 3, and started again it goes on from there.

    vfl deploy score .          # the referee's figures of the finished run
"""
SUPERLINK = """#!/bin/sh
# The SuperLink, on https://{address}.
cd "$(dirname "$0")" || exit 1
export FLWR_HOME="$PWD/flwr" FLWR_TELEMETRY_ENABLED=0 FLWR_DISABLE_UPDATE_CHECK=1
export FLWR_SUPEREXEC_TASK_POLL_INTERVAL=0.05
exec flower-superlink --host {host} --port {port} --ssl-ca-certfile ca.crt --ssl-certfile server.crt \\
  --ssl-keyfile server.key --enable-supernode-auth --disable-runtime-dependency-installation
"""
SUPERNODE = """#!/bin/sh
# The SuperNode of {party}. With the argument `stock` the party has no process of its own. One that died is started
# again: up to a minute long the SuperLink takes it for online, and a second one of its key for an impostor.
[ "$1" = stock ] && resident=false || resident=true
cd "$(dirname "$0")" || exit 1
export FLWR_HOME="$PWD/flwr" FLWR_TELEMETRY_ENABLED=0 FLWR_DISABLE_UPDATE_CHECK=1 OMP_NUM_THREADS=1
export FLWR_SUPEREXEC_TASK_POLL_INTERVAL=0.05
trap 'kill "$node"; exit 143' INT TERM
for attempt in 1 2 3 4 5 6 7 8 9 10 11 12; do
  flower-supernode --superlink {address} --root-certificates ca.crt --auth-supernode-private-key node.key \\
    --host 127.0.0.1 --port {port} --ssl-ca-certfile ca.crt --ssl-certfile server.crt --ssl-keyfile server.key \\
    --node-config "party=\\"$PWD\\" resident=$resident" &
  node=$!
  wait "$node" && exit 0
  sleep 6
done
exit 1
"""
PARTY = """#!/bin/sh
# The long-lived process of {party}: it alone reads the party's data.
cd "$(dirname "$0")" || exit 1
exec vfl deploy party .
"""
REGISTER = """#!/bin/sh
# Registers the key of every SuperNode at the SuperLink.
cd "$(dirname "$0")" || exit 1
export FLWR_HOME="$PWD/flwr" FLWR_TELEMETRY_ENABLED=0 FLWR_DISABLE_UPDATE_CHECK=1
for key in parties/*/node.pub; do flwr supernode register "$key" deployment || exit 1; done
"""
RUN = """#!/bin/sh
# Starts the run, or goes on with it from its last checkpoint, and shows its log. Exit code 3: a party failed.
cd "$(dirname "$0")" || exit 1
export FLWR_HOME="$PWD/flwr" FLWR_TELEMETRY_ENABLED=0 FLWR_DISABLE_UPDATE_CHECK=1
rm -f coordinator/fit.json coordinator/failed.txt
flwr run app deployment --stream
[ -e coordinator/fit.json ] && exit 0
cat coordinator/failed.txt >&2
exit 3
"""
CONNECTION = """[superlink]
default = "deployment"

[superlink.deployment]
address = "{address}"
root-certificates = "{folder}/superlink/ca.crt"
"""
PYPROJECT = """[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "vfl-deployment"
version = "1.0.0"
description = "One run of vertical federated learning"
license = {{ file = "LICENSE" }}
dependencies = ["flwr>=1.41,<1.42"]

[tool.hatch.build.targets.wheel]
packages = ["."]

[tool.flwr.app]
publisher = "vfl"
fab-format-version = 1
flwr-version-target = "1.41.0"

[tool.flwr.app.components]
serverapp = "vfl_deployment.server:app"
clientapp = "vfl_deployment.client:app"

[tool.flwr.app.config]
out = "{out}"
"""
SERVER = '''"""The coordinator."""

from pathlib import Path

from experiments.deploy import server_app

app = server_app(Path(__file__).with_name("plan.json"))
'''
CLIENT = '''"""Every party; its SuperNode says which."""

from parties.messenger import client_app

app = client_app()
'''


def init(config: Config, out: Path, address: str, seeded: bool = False) -> dict[str, Any]:
    """Write a deployment of a configuration to `out`, which is new or empty; returns what is where.

    Every party's streams, and with them the secrets of matching, masks and noise, begin at the system's randomness.
    With `seeded` they follow from the configuration's seed, as in a simulation: whoever knows it knows them all.
    Raises `ConfigError` for what only a simulation plays.
    """
    _refuse_simulated(config)
    world = open_world(config)
    if not seeded:
        world = recut(config, world, Seeds(secrets.token_bytes(32)))
    config = config.model_copy(update={"wire": config.wire.model_copy(update={"channel": "on"})})
    configs.check_members(config)
    specs = [replace(spec, channel=True) for spec in party_specs(config, world, out)]
    if not seeded:
        shared = Seeds(secrets.token_bytes(32))
        specs = [replace(spec, seeds=Seeds(secrets.token_bytes(32)), shared=shared) for spec in specs]
    out = out.resolve()
    _check_sockets(out, [spec.party for spec in specs])
    (out / CONFIG_FILE).write_text(configs.dump(config), encoding="utf-8")
    _write_app(out, specs, coordinator_plan(config), config.faults.timeout_s)
    host, _, port = address.partition(":")
    authority(out / "superlink", host)
    _script(out / "superlink" / "start.sh", SUPERLINK.format(address=address, host=host, port=port))
    run = secrets.token_hex(16)
    for place, spec in enumerate(specs, start=1):
        _write_party(out, spec, run, address, int(port) + place)
    for spec in specs:
        for other in specs:
            name = f"{other.party}{identity.PUBLIC_SUFFIX}"
            if other.party != spec.party:
                shutil.copyfile(
                    out / "parties" / other.party / "keys" / name, out / "parties" / spec.party / "keys" / name
                )
    (out / "flwr").mkdir()
    (out / "flwr" / "config.toml").write_text(CONNECTION.format(address=address, folder=out), encoding="utf-8")
    _script(out / "register.sh", REGISTER)
    _script(out / "run.sh", RUN)
    (out / "README.md").write_text(README, encoding="utf-8")
    return {"out": str(out), "address": address, "parties": [spec.party for spec in specs]}


def _refuse_simulated(config: Config) -> None:
    """Refuse what would be left out: a deployment's links are real, its keys its own, and its parties honest."""
    for option in ("loss", "duplicate", "crash", "latency_ms"):
        if got := getattr(config.faults, option):
            message = f"got {got}, allowed 0: only a simulation plays it, a deployment's links are real; remove it"
            raise ConfigError(message, key=f"faults.{option}")
    if config.wire.keys is not None:
        advice = "a deployment draws key pairs; remove it, and put your own into each parties/ID/keys"
        raise ConfigError(f"got {config.wire.keys!r}, allowed none: {advice}", key="wire.keys")
    for attack in config.attack:
        if needs_of(attack).active:
            message = f"got {attack.name!r}, which acts in training: a deployment's parties are honest; remove it"
            raise ConfigError(message, key="attack")


def _check_sockets(out: Path, parties: Sequence[PartyId]) -> None:
    """Refuse a folder whose parties' sockets would have longer names than the system takes."""
    longest = max(len(str(out / "parties" / party / SOCKET)) for party in parties)
    if longest > SOCKET_NAME:
        got = f"a folder whose sockets have names of {longest} bytes"
        raise UserError(f"got {got}, allowed {SOCKET_NAME}; name a shorter one", key=str(out), where="--out")


def server_app(path: Path) -> ServerApp:
    """Return the `ServerApp` of a deployment: it plays the plan of `path` and writes what it learned to `out`."""
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        out = Path(cast(str, context.run_config["out"]))
        try:
            write_json(out / FIT_FILE, fit_facts(_coordinate(grid, path, out)))
        except VflError as error:
            (out / FAILED_FILE).write_text(f"vfl: {error}\n", encoding="utf-8")
            raise
        clear_progress(out)

    return app


def _coordinate(grid: Grid, path: Path, out: Path) -> Fit:
    """Play a plan to its end, from the checkpoint that `out` holds where there is one."""
    roster, plan, timeout_s = read_plan(path)
    begun = load_progress(out)
    fit = Fit(begun or Progress())
    carrier = FlowerCarrier(roster, grid, timeout_s)
    for party in fit.absent:
        carrier.excuse(party)
    carrier.find()
    party_grid = PartyGrid(roster, carrier, "relay", owns=False)
    Coordinator(party_grid, plan, fit, Keeper(out)).run(resume=begun is not None)
    return fit


@dataclass(frozen=True, slots=True)
class Keeper:
    """A watcher that keeps what the coordinator needs to go on; its log is Flower's own."""

    out: Path

    def phase(self, name: str, steps: int) -> None:
        """Hear of a phase."""

    def advance(self, name: str, done: int, loss: float | None) -> None:
        """Hear of progress."""

    def checkpointed(self, progress: Progress) -> None:
        """Write how far the run has come: every party has written its own checkpoint."""
        save_progress(self.out, progress)


def fit_facts(fit: Fit) -> dict[str, Any]:
    """Return what the coordinator learned, as a run directory's reader wants it."""
    from experiments.run import digest

    return strict(
        {
            "digest": digest(fit),
            "losses": fit.progress.losses,
            "wall_s": fit.progress.wall_s,
            "restarts": fit.restarts,
            "absent": fit.absent,
            "reports": {party: dict(report) for party, report in fit.reports.items()},
            "closing": fit.closing,
        }
    )


def score(folder: Path) -> dict[str, Any]:
    """Return the referee's figures of a finished deployment: what `vfl simulate` prints as utility and gain.

    The referee reads truth, so this runs where the advertiser's data are, with what every party was told. Raises
    `UserError` before the run has ended.
    """
    from parties.judging import judge

    try:
        fit = json.loads((folder / "coordinator" / FIT_FILE).read_text(encoding="utf-8"))
    except OSError:
        raise UserError("the run has not ended; start it with run.sh", where=str(folder / "coordinator")) from None
    config = configs.load(folder / CONFIG_FILE, ())
    parties = folder / "parties"
    specs = [open_party(parties / party) for party in open_party(parties / REFEREE).roster.ids() if party != REFEREE]
    found = judge(specs, str(parties / REFEREE), list(config.references), Seeds(config.seed).scope("referee"))
    return strict({"digest": fit["digest"], "utility": found["utility"], "gain": found["gain"]})


def open_party(folder: Path) -> PartySpec:
    """Return what a party's folder says; raises `DataError` where it says nothing of the kind."""
    return read(folder.resolve() / PARTY_FILE)


def _write_party(out: Path, spec: PartySpec, run: str, address: str, port: int) -> None:
    folder = out / "parties" / spec.party
    (folder / "keys").mkdir(parents=True)
    folder.chmod(0o700)
    identity.create(folder / "keys", spec.party, days=365)
    write(folder / PARTY_FILE, spec, run)
    node_key(folder)
    server_certificate(out / "superlink", folder, "127.0.0.1")
    _script(folder / "start.sh", SUPERNODE.format(party=spec.party, address=address, port=port))
    _script(folder / "party.sh", PARTY.format(party=spec.party))


def _write_app(out: Path, specs: list[PartySpec], plan: Plan, timeout_s: float) -> None:
    package = out / APP / "vfl_deployment"
    package.mkdir(parents=True)
    (out / "coordinator").mkdir()
    (out / APP / "pyproject.toml").write_text(PYPROJECT.format(out=out / "coordinator"), encoding="utf-8")
    (out / APP / "LICENSE").write_text("Apache-2.0\n", encoding="utf-8")
    (package / "__init__.py").write_text('"""A deployment."""\n', encoding="utf-8")
    (package / "server.py").write_text(SERVER, encoding="utf-8")
    (package / "client.py").write_text(CLIENT, encoding="utf-8")
    members = [[party, role.value] for party, role in specs[0].roster.members]
    write_json(package / "plan.json", {"members": members, "plan": asdict(plan), "timeout_s": timeout_s})


def read_plan(path: Path) -> tuple[Roster, Plan, float]:
    """Return who takes part, what is played, and how long a party may be silent, from the file that `init` wrote."""
    value = json.loads(path.read_text(encoding="utf-8"))
    members: list[tuple[PartyId, Role]] = [(party, Role(role)) for party, role in value["members"]]
    plan = value["plan"]
    phases = tuple(
        Phase(**{**each, "hops": _hops(each["hops"]), "pool": Pool(each["pool"])}) for each in plan["phases"]
    )
    read: Mapping[str, Any] = {**plan, "align": _hops(plan["align"]), "evaluate": _hops(plan["evaluate"])}
    return Roster(tuple(members)), Plan(**{**read, "phases": phases}), float(value["timeout_s"])


def _hops(found: list[dict[str, Any]]) -> tuple[Hop, ...]:
    return tuple(
        Hop(
            each["name"],
            Role(each["role"]),
            each["handler"],
            tuple(each["takes"]),
            None if each["gives"] is None else Kind(each["gives"]),
        )
        for each in found
    )


def _script(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)
