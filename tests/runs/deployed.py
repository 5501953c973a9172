"""The processes of a Flower deployment on the loopback interface, for tests that start, search and kill them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from experiments.cli import main
from experiments.config import dump
from experiments.schema import Config

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

    def wait_for(self, path: Path, seconds: float) -> None:
        """Wait until a file is there, or the run has failed."""
        deadline = time.monotonic() + seconds
        while not path.exists() and time.monotonic() < deadline:
            if self.running["run.sh"].poll():
                break
            time.sleep(0.1)
        assert path.exists(), "".join(self.log(script)[-2000:] for script in self.running)

    def wait_for_line(self, script: str, text: str, seconds: float) -> None:
        """Wait until a script has said something."""
        deadline = time.monotonic() + seconds
        while text not in self.log(script) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert text in self.log(script), self.log(script)[-3000:]

    def finish(self, seconds: float) -> dict:
        """Wait for the result of the run and return it."""
        path = self.folder / "coordinator" / "fit.json"
        self.wait_for(path, seconds)
        return json.loads(path.read_text())

    def failed(self, seconds: float) -> str:
        """Wait for the run to end as one that failed, and return what `run.sh` said."""
        assert self.running.pop("run.sh").wait(seconds) == 3, self.log("run.sh")[-2000:]
        return self.log("run.sh")

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


@contextmanager
def deployed(folder: Path, asked: Config, hook: str) -> Iterator[Deployment]:
    """Write a deployment to a folder, start its SuperLink, and end everything; `hook` runs first in the ServerApp."""
    out = folder / "deployment"
    (folder / "run.yaml").write_text(dump(asked))
    command = ["deploy", "init", str(folder / "run.yaml"), "--out", str(out)]
    assert main([*command, "--seeded", "--address", f"127.0.0.1:{free_port()}"]) == 0
    server = out / "app" / "vfl_deployment" / "server.py"
    server.write_text(hook + server.read_text())
    made = Deployment(out)
    try:
        made.start("superlink/start.sh")
        yield made
    finally:
        made.close()
