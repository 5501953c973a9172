"""A Flower deployment on the loopback interface: TLS, registered SuperNodes only, and the digest of LocalGrid.

Run by `pytest -m deploy -n0 tests/deploy`; it takes a few minutes, as Flower's own polling takes seconds a message.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import config, digest, train
from memory import found_in, secrets

from experiments.cli import main

pytestmark = [pytest.mark.deploy, pytest.mark.timeout(900)]
SMALL = {"data": "breast_cancer", "train": {"epochs": 1, "batch_size": 256}, "references": []}
SETS = ["data=breast_cancer", "train.epochs=1", "train.batch_size=256", "attack=[]", "references=[]"]
PARTIES = ("publisher", "advertiser", "referee")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return min(probe.getsockname()[1], 64_000)


class Deployment:
    """The processes of one deployment; all of them are ended when the test is over."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.running: dict[str, subprocess.Popen] = {}
        self.environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONWARNINGS": "ignore",
        }

    def start(self, script: str, *arguments: str) -> None:
        log = (self.folder / f"{script.replace('/', '-')}.log").open("wb")
        command = ["sh", str(self.folder / script), *arguments]
        self.running[script] = subprocess.Popen(
            command, stdout=log, stderr=log, env=self.environment, start_new_session=True
        )

    def log(self, script: str) -> str:
        return (self.folder / f"{script.replace('/', '-')}.log").read_text(errors="replace")

    def run(self, script: str, timeout: float) -> subprocess.CompletedProcess:
        command = ["sh", str(self.folder / script)]
        return subprocess.run(command, env=self.environment, timeout=timeout, capture_output=True, text=True)

    def register(self) -> None:
        """Register the keys; the SuperLink needs a moment to come up."""
        for _ in range(60):
            found = self.run("register.sh", 60)
            if found.returncode == 0:
                return
            time.sleep(1)
        pytest.fail(f"{found.stdout}{found.stderr}{self.log('superlink/start.sh')}")

    def finish(self, seconds: float) -> dict:
        """Start the run, wait for its result and return it."""
        started = self.run("run.sh", seconds)
        path = self.folder / "coordinator" / "fit.json"
        deadline = time.monotonic() + 30
        while not path.exists() and time.monotonic() < deadline:
            time.sleep(0.5)
        logs = "".join(self.log(script) for script in self.running)
        assert path.exists(), started.stdout[-3000:] + started.stderr[-3000:] + logs[-6000:]
        return json.loads(path.read_text())

    def stop(self, script: str, how: signal.Signals = signal.SIGTERM) -> None:
        process = self.running.pop(script)
        try:
            os.killpg(process.pid, how)
        except ProcessLookupError:
            return
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)

    def close(self) -> None:
        for script in list(self.running):
            self.stop(script)


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    folder = tmp_path / "deployment"
    sets = [part for text in SETS for part in ("--set", text)]
    assert main(["deploy", "init", *sets, "--out", str(folder), "--address", f"127.0.0.1:{free_port()}"]) == 0
    made = Deployment(folder)
    try:
        made.start("superlink/start.sh")
        yield made
    finally:
        made.close()


def expected() -> str:
    return digest(train(config(**SMALL)))


@pytest.mark.parametrize("resident", [True, False], ids=["resident", "stock"])
def test_a_deployment_ends_in_the_digest_and_figures_of_local(deployment: Deployment, resident: bool, capsys) -> None:
    """With a long-lived process a party, and with stock SuperNodes: a process a message, the rest in their state."""
    deployment.register()
    for party in PARTIES:
        if resident:
            deployment.start(f"parties/{party}/party.sh")
        deployment.start(f"parties/{party}/start.sh", *([] if resident else ["stock"]))
    fit = deployment.finish(800)
    assert fit["digest"] == expected()
    capsys.readouterr()
    assert main(["deploy", "score", str(deployment.folder), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["utility"]["test"]["auc"] > 0.5
    _coordinator_saw_nothing(deployment)


def _coordinator_saw_nothing(deployment: Deployment) -> None:
    """Nothing of the transcripts is in what the coordinator's side wrote, nor in the SuperLink's memory."""
    places = [deployment.folder / name for name in ("coordinator", "superlink", "flwr", "app")]
    logs = [deployment.log("superlink/start.sh").encode()]
    written = b"".join(logs + [path.read_bytes() for place in places for path in place.rglob("*") if path.is_file()])
    parties = [deployment.folder / "parties" / party / "transcript" for party in ("publisher", "advertiser")]
    needles = [each for place in parties for each in secrets(place)]
    assert len(needles) > 10
    assert not [needle for needle in needles if needle in written]
    assert found_in(deployment.running["superlink/start.sh"].pid, needles) == 0


def test_a_supernode_with_an_unregistered_key_is_turned_away(deployment: Deployment) -> None:
    deployment.register()
    from experiments.certificates import node_key

    folder = deployment.folder / "parties" / "publisher"
    (folder / "node.key").unlink()
    node_key(folder)
    deployment.start("parties/publisher/start.sh")
    assert deployment.running["parties/publisher/start.sh"].wait(90) != 0
    assert "public key" in deployment.log("parties/publisher/start.sh")
