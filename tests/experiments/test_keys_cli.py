"""`vfl keys` as a person uses it, and a run that takes the keys."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from experiments.cli import main
from vfl import identity

pytestmark = pytest.mark.usefixtures("shared_isolation")


def test_keys_are_made_once_and_shown_without_the_private_part(tmp_path, capsys):
    folder = tmp_path / "keys"
    assert main(["keys", "init", str(folder), "publisher", "advertiser", "referee", "--days", "30", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)["keys"]
    assert main(["keys", "show", str(folder), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)["keys"]
    assert shown == made
    assert set(shown) == {"publisher", "advertiser", "referee"}
    assert main(["keys", "init", str(folder), "publisher"]) == 2
    assert "there already" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["show", "nowhere"], ["init", "keys", "../evil"], ["init", "keys", "a/b"]])
def test_what_cannot_be_done_is_one_line_and_exit_2(tmp_path, capsys, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    assert main(["keys", *arguments]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not list(tmp_path.rglob("*.key"))


SMALL = ["backend=local", "data=breast_cancer", "train.epochs=1", "attack=[]", "references=[]", "wire.channel=on"]


def test_a_run_signs_by_the_key_files_and_keeps_none_of_them(tmp_path, capsys):
    keys, out = tmp_path / "keys", tmp_path / "run"
    main(["keys", "init", str(keys), "publisher", "advertiser"])
    sets = [part for text in [*SMALL, f"wire.keys={keys}"] for part in ("--set", text)]
    assert main(["simulate", *sets, "--out", str(out)]) == 2
    assert "no public key of referee" in capsys.readouterr().err
    main(["keys", "init", str(keys), "referee"])
    assert main(["simulate", *sets, "--out", str(out)]) == 0
    secrets = [path.read_bytes() for path in keys.glob("*.key")]
    written = b"".join(path.read_bytes() for path in out.rglob("*") if path.is_file())
    assert len(secrets) == 3
    assert not any(line in written for text in secrets for line in text.splitlines())


def test_an_expired_party_ends_the_run_with_exit_3(tmp_path, capsys):
    keys = tmp_path / "keys"
    identity.create(keys, "publisher", days=1)
    identity.save_public(keys, "publisher", replace(identity.load_registry(keys)["publisher"], expires=1.0))
    main(["keys", "init", str(keys), "advertiser", "referee"])
    sets = [part for text in [*SMALL, f"wire.keys={keys}"] for part in ("--set", text)]
    assert main(["simulate", *sets, "--out", str(tmp_path / "run")]) == 3
    assert "'publisher', whose key has expired" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["publisher", "--days", "0"], "got 0.0 days, allowed more than 0 and at most 3650"),
        (["publisher", "--days", "nan"], "got nan days"),
        (["publisher", "--days", "inf"], "got inf days"),
        (["publisher", "../advertiser"], "got '../advertiser', allowed letters, digits and _"),
    ],
)
def test_what_cannot_be_made_is_refused_and_nothing_is_written(tmp_path, capsys, arguments, told):
    assert main(["keys", "init", str(tmp_path / "keys"), *arguments]) == 2
    found = capsys.readouterr().err
    assert told in found
    assert found.count("\n") == 1
    assert not (tmp_path / "keys").exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--address", "a b:9100"], "allowed HOST:PORT"),
        (["--address", "$(id):9100"], "allowed HOST:PORT"),
        (["--address", "127.0.0.1:80"], "allowed HOST:PORT"),
        (["--set", "data={name: csv, publisher: no.csv, advertiser: no.csv, key: a, label: b}"], "no such file"),
    ],
)
def test_a_deployment_that_cannot_be_written_leaves_nothing(tmp_path, capsys, arguments, told):
    assert main(["deploy", "init", "--out", str(tmp_path / "new" / "deployment"), *arguments]) == 2
    found = capsys.readouterr().err
    assert told in found
    assert found.count("\n") == 1
    assert not (tmp_path / "new").exists()
