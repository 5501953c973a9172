"""Processes of a deployment that are really killed, and parties that others do not take for who they say they are."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from deployed import PARTIES, Deployment, deployed
from harness import config, digest, train

from experiments.schema import Config
from vfl import identity

pytestmark = [pytest.mark.deploy, pytest.mark.timeout(600)]
AT = """
import time
from pathlib import Path
from vfl.grid import PartyGrid

played, FOLDER = PartyGrid.play, Path({folder!r})


def play_when_told(self, hops, step):
    \"\"\"Stay before a round of training until the test has done what it does to the parties then.\"\"\"
    here = FOLDER / f"at-{{step.index}}"
    if step.index in {steps!r}:
        here.touch()
        while not here.with_name(f"go-{{step.index}}").exists():
            time.sleep(0.05)
    return played(self, hops, step)


PartyGrid.play = play_when_told
"""
FIRST, LATER, LAST = 1, 2, 3
"""Rounds: the first of training, before any checkpoint; one after the first checkpoint; the last. 0 is alignment."""
PUBLISHER = "parties/publisher/party.sh", "parties/publisher/start.sh"


def asked(timeout_s: float) -> Config:
    return config(
        train={"epochs": 1, "batch_size": 200, "checkpoint_every": 1},
        holdout={"test": 0.25, "valid": 0.0},
        wire={"channel": "on"},
        faults={"restarts": 2, "timeout_s": timeout_s},
    )


@contextmanager
def started(folder: Path, timeout_s: float) -> Iterator[Deployment]:
    with deployed(folder, asked(timeout_s), AT.format(folder=str(folder), steps=(FIRST, LATER, LAST))) as made:
        made.register()
        for party in PARTIES:
            made.start(f"parties/{party}/party.sh")
            made.start(f"parties/{party}/start.sh")
        yield made


def test_parties_killed_before_and_after_a_checkpoint_come_back_to_the_calm_digest(tmp_path: Path) -> None:
    """First the publisher's SuperNode as well: the SuperLink turns a new one away until it has missed the old one."""
    with started(tmp_path, 180) as deployment:
        deployment.start("run.sh")
        deployment.wait_for(tmp_path / f"at-{FIRST}", 200)
        assert not (deployment.folder / "coordinator" / "coordinator.json").exists()
        for script in PUBLISHER:
            deployment.stop(script, signal.SIGKILL)
            deployment.start(script)
        (tmp_path / f"go-{FIRST}").touch()
        deployment.wait_for(tmp_path / f"at-{LATER}", 300)
        assert (deployment.folder / "coordinator" / "coordinator.json").exists()
        deployment.stop("parties/advertiser/party.sh", signal.SIGKILL)
        (tmp_path / f"go-{LATER}").touch()
        (tmp_path / f"go-{LAST}").touch()
        time.sleep(5)
        deployment.start("parties/advertiser/party.sh")
        fit = deployment.finish(200)
    assert fit["restarts"] == 2
    assert fit["digest"] == digest(train(asked(180)))


def unregistered(keys: Path) -> None:
    (keys / "publisher.pub").unlink()


def expired(keys: Path) -> None:
    known = identity.load_registry(keys)["publisher"]
    identity.save_public(keys, "publisher", replace(known, expires=1.0))


def wrong_key(keys: Path) -> None:
    other = identity.create(keys / "of-somebody-else", "publisher", days=1)
    identity.save_public(keys, "publisher", other)


REFUSED = {
    wrong_key: "'publisher' that its registered key did not sign",
    expired: "'publisher', whose key has expired",
    unregistered: "'publisher', who is not registered",
}


def test_who_is_not_registered_is_refused_and_a_party_that_stays_away_ends_a_run_that_can_be_resumed(
    tmp_path: Path,
) -> None:
    """Each time `run.sh` ends with exit code 3 and says who it was and why; started again, it trains."""
    keys = tmp_path / "deployment" / "parties" / "advertiser" / "keys"
    with started(tmp_path, 40) as deployment:
        shutil.copytree(keys, tmp_path / "keys")
        for change, told in REFUSED.items():
            change(keys)
            deployment.stop("parties/advertiser/party.sh")
            deployment.start("parties/advertiser/party.sh")
            deployment.start("run.sh")
            assert f"vfl: got a greeting of {told}" in deployment.failed(200)
        shutil.copytree(tmp_path / "keys", keys, dirs_exist_ok=True)
        deployment.stop("parties/advertiser/party.sh")
        deployment.start("parties/advertiser/party.sh")
        for step in (FIRST, LATER):
            (tmp_path / f"go-{step}").touch()
        deployment.start("run.sh")
        deployment.wait_for(tmp_path / f"at-{LAST}", 200)
        deployment.stop("parties/publisher/party.sh", signal.SIGKILL)
        (tmp_path / f"go-{LAST}").touch()
        assert "vfl: publisher stayed away for 40 s" in deployment.failed(200)
        deployment.start("parties/publisher/party.sh")
        deployment.start("run.sh")
        fit = deployment.finish(200)
    assert fit["digest"] == digest(train(asked(40)))
