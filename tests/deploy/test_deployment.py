"""A Flower deployment on the loopback interface: TLS, registered SuperNodes only, and the digest of LocalGrid.

Run by `pytest -m deploy -n0 tests/deploy`; it takes a few minutes, as Flower's own polling takes seconds a message.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import tables
from deployed import PARTIES, Deployment, deployed
from memory import descendants, label_runs, secrets, which

from experiments.cli import main
from experiments.progress import Silent
from experiments.run import simulate
from experiments.schema import Config

pytestmark = [pytest.mark.deploy, pytest.mark.timeout(900)]
HOLD = '''
import sys, time
from pathlib import Path
from experiments import deploy

PLANTED = bytes(range(160, 255, 2)) * 2
written = deploy.write_json


def write_and_wait(path, value):
    """Stay until the memory of this process has been searched, with all that it has learned still at hand."""
    written(path, value)
    while not path.with_name("searched").exists():
        time.sleep(0.1)


deploy.write_json = write_and_wait
'''


@pytest.fixture
def asked(tmp_path: Path) -> Config:
    return tables.scenario(tmp_path / "tables")


@pytest.fixture
def deployment(tmp_path: Path, asked: Config) -> Iterator[Deployment]:
    with deployed(tmp_path, asked, HOLD) as made:
        yield made


@pytest.mark.parametrize("resident", [True, False], ids=["resident", "stock"])
def test_a_deployment_ends_in_the_digest_and_figures_of_local_and_its_coordinator_saw_nothing(
    deployment: Deployment, asked: Config, resident: bool, tmp_path: Path, capsys
) -> None:
    """With a long-lived process a party, and with stock SuperNodes: a process a message, the rest in their state."""
    deployment.register()
    for party in PARTIES:
        if resident:
            deployment.start(f"parties/{party}/party.sh")
        deployment.start(f"parties/{party}/start.sh", *([] if resident else ["stock"]))
    deployment.start("run.sh")
    fit = deployment.finish(700)
    _coordinator_holds_nothing(deployment)
    row = simulate(asked, tmp_path / "local", ray_address=None, resume=None, progress=Silent())
    assert fit["digest"] == row["digest"]
    assert len(fit["losses"]) == 2
    capsys.readouterr()
    assert main(["deploy", "score", str(deployment.folder), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["utility"] == row["utility"]
    assert found["utility"]["test"]["auc"] > 0.5


def _coordinator_holds_nothing(deployment: Deployment) -> None:
    """Nothing of the transcripts, the ids or the labels is in the memory of the SuperLink and the ServerApp, which is
    held at its end, nor in what either wrote."""
    data = deployment.folder.parent / "tables"
    ids = tables.write(data)
    parties = [deployment.folder / "parties" / party / "transcript" for party in ("publisher", "advertiser")]
    needles = [each for place in parties for each in secrets(place)]
    labels = label_runs(pd.read_csv(data / "advertiser.csv")["bought"].to_numpy())
    needles += [each.encode() for each in ids] + labels
    assert len(needles) > 60
    places = [deployment.folder / name for name in ("coordinator", "superlink", "flwr", "app")]
    logs = [deployment.log(script).encode() for script in ("superlink/start.sh", "run.sh")]
    assert b"train" in logs[1], "the stream of the ServerApp's log is empty"
    written = b"".join(logs + [path.read_bytes() for place in places for path in place.rglob("*") if path.is_file()])
    assert not [needle for needle in needles if needle in written]
    processes = descendants(deployment.running["superlink/start.sh"].pid)
    planted = bytes(range(160, 255, 2)) * 2
    known = {needle for pid in processes for needle in which(pid, [planted])}
    assert known == {planted}, "the search does not find what the ServerApp is known to hold"
    assert [which(pid, needles) for pid in processes] == [[]] * len(processes)
    (deployment.folder / "coordinator" / "searched").touch()


def test_a_supernode_with_an_unregistered_key_is_turned_away(deployment: Deployment) -> None:
    deployment.register()
    from experiments.certificates import node_key

    folder = deployment.folder / "parties" / "publisher"
    (folder / "node.key").unlink()
    node_key(folder)
    deployment.start("parties/publisher/start.sh")
    deployment.wait_for_line("superlink/start.sh", "No SuperNode found with the given public key", 90)
    deployment.wait_for_line("parties/publisher/start.sh", "Failed to activate SuperNode", 30)
