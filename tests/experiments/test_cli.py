from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import typer.main

from experiments import cli
from experiments.cli import main
from vfl.errors import ConfigError, DataError, PartyError
from vfl.registry import FAMILIES

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = Path(__file__).with_name("example_row.json")
LOCAL = str(ROOT / "configs" / "run" / "quick_local.yaml")
COMMANDS = [["simulate"], ["sweep"], ["attack"], ["show"], ["align"], ["account"], ["list"], ["config", "check"]]
COMMANDS += [["config", "schema"], *(["data", name] for name in ("list", "describe", "split", "generate", "fetch"))]
COMMANDS += [["report"], ["predict"], ["keys", "init"], ["keys", "show"]]
COMMANDS += [["deploy", "init"], ["deploy", "party"], ["deploy", "score"]]


class Calls(list):
    """What the stand-in for `experiments.run` was called with, and what it does then."""

    error: BaseException | None = None
    row = json.loads(EXAMPLE.read_text(encoding="utf-8"))

    def answer(self, value):
        if self.error is not None:
            raise self.error
        sys.stdout.write("a library that talks\n")
        return value


@pytest.fixture
def calls(monkeypatch):
    calls, module = Calls(), ModuleType("experiments.run")

    def simulate(config, out, *, ray_address, resume, progress):
        calls.append({"config": config, "out": out, "ray_address": ray_address, "resume": resume})
        progress.start("train", 1)
        progress.finish("train")
        return calls.answer({**calls.row, "cost": {**calls.row["cost"], "wall_s": float("nan")}})

    def attack(run_dir, entries, config, progress):
        calls.append({"run_dir": run_dir, "entries": entries, "config": config})
        leakage = {entry["as"] or entry["name"]: calls.row["leakage"]["norm"] for entry in entries}
        return calls.answer({"schema": 1, "run_id": "a", "digest": "d", "leakage": leakage})

    module.simulate, module.attack = simulate, attack
    monkeypatch.setitem(sys.modules, "experiments.run", module)
    monkeypatch.setattr("experiments.run", module, raising=False)
    return calls


@pytest.fixture
def finished(tmp_path):
    folder = tmp_path / "done"
    (folder / "attacks").mkdir(parents=True)
    (folder / "parties" / "publisher").mkdir(parents=True)
    (folder / "parties" / "publisher" / "secret").write_text("row")
    (folder / "config.yaml").write_text("backend: local\ndata: breast_cancer\n")
    (folder / "row.json").write_text(EXAMPLE.read_text(encoding="utf-8"))
    (folder / "attacks" / "later.json").write_text('{"leak_auc": 0.7, "chance": 0.5, "ci": [0.6, 0.8]}')
    return folder


@pytest.fixture
def unfinished(tmp_path):
    folder = tmp_path / "begun"
    folder.mkdir()
    (folder / "config.yaml").write_text("backend: local\ndata: breast_cancer\nseed: 7\n")
    return folder


def no_constant(text):
    raise AssertionError(f"{text} is not strict JSON")


def strict(text: str):
    return json.loads(text, parse_constant=no_constant)


def refused(capsys, *arguments: str) -> list[str]:
    assert main(list(arguments)) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert all(line.startswith("vfl: ") for line in lines)
    assert "Traceback" not in captured.err
    assert "\x1b" not in captured.err
    return lines


def test_simulate_prints_one_strict_json_object(capsys, calls):
    assert main(["simulate", LOCAL, "--json"]) == 0
    captured = capsys.readouterr()
    row = strict(captured.out)
    assert row["run_id"] == calls.row["run_id"]
    assert row["cost"]["wall_s"] is None
    assert captured.err == "a library that talks\n"


def test_simulate_shows_the_gain_first(capsys, calls):
    assert main(["simulate", LOCAL]) == 0
    assert capsys.readouterr().out.startswith("What the partner's data adds")


def test_simulate_hands_over_what_was_asked(calls, tmp_path):
    arguments = ["--set", "train.epochs=1", "--seed", "4", "--backend", "ray", "--ray-address", "auto"]
    assert main(["simulate", LOCAL, *arguments, "--out", str(tmp_path / "new"), "--json"]) == 0
    (call,) = calls
    assert (call["config"].seed, call["config"].train.epochs, call["config"].backend) == (4, 1, "ray")
    assert (call["out"], call["ray_address"], call["resume"]) == (tmp_path / "new", "auto", None)


def test_simulate_without_a_file_is_the_default_run(calls):
    assert main(["simulate", "--json"]) == 0
    assert calls[0]["config"].data.name == "adult"
    assert calls[0]["out"] is None


def test_resume_goes_on_from_the_runs_own_configuration(calls, unfinished):
    assert main(["simulate", "--resume", str(unfinished), "--json"]) == 0
    assert calls[0]["config"].seed == 7
    assert calls[0]["resume"] == unfinished


def test_resume_of_a_finished_run_prints_its_row(capsys, calls, finished):
    assert main(["simulate", "--resume", str(finished), "--json"]) == 0
    assert strict(capsys.readouterr().out)["run_id"] == calls.row["run_id"]
    assert calls == []


def test_attack_replays_a_finished_run(capsys, calls, finished):
    sets = ["--set", "attack.1.hints=3", "--set", "attack.1.as=more", "--set", "threat.hints.labelled_rows=3"]
    assert main(["attack", str(finished), "--attack", "norm", "--attack", "direction", *sets, "--json"]) == 0
    assert set(strict(capsys.readouterr().out)["leakage"]) == {"norm", "more"}
    (call,) = calls
    assert call["run_dir"] == finished
    assert call["entries"] == [{"name": "norm", "as": None}, {"name": "direction", "as": "more", "hints": 3}]
    assert call["config"].threat.hints.labelled_rows == 3
    assert call["config"].data.name == "breast_cancer"


def test_attack_shows_a_table(capsys, calls, finished):
    assert main(["attack", str(finished), "--attack", "norm"]) == 0
    assert capsys.readouterr().out.startswith("Leakage")


def test_show_prints_the_row_and_later_attacks(capsys, finished):
    assert main(["show", str(finished), "--json"]) == 0
    assert strict(capsys.readouterr().out) == json.loads(EXAMPLE.read_text(encoding="utf-8"))
    assert main(["show", str(finished)]) == 0
    assert "later" in capsys.readouterr().out


def test_show_copies_the_shareable_part_and_no_more(capsys, finished, tmp_path):
    out = tmp_path / "for" / "them"
    assert main(["show", str(finished), "--shareable", str(out)]) == 0
    copied = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert copied == {"config.yaml", "row.json", "attacks/later.json"}
    capsys.readouterr()
    assert refused(capsys, "show", str(finished), "--shareable", str(out))[0].startswith("vfl: --shareable: ")


def test_list_names_every_family_and_member(capsys):
    assert main(["list", "--json"]) == 0
    listed = strict(capsys.readouterr().out)
    assert set(listed) == set(FAMILIES)
    assert main(["list", "defense", "--json"]) == 0
    assert strict(capsys.readouterr().out) == listed["defense"]
    assert {"name", "summary", "reference"} == set(listed["defense"][0])
    assert main(["list"]) == main(["list", "attack"]) == 0
    assert "norm" in capsys.readouterr().out


def test_config_check_prints_the_resolved_configuration(capsys, tmp_path):
    assert main(["config", "check", LOCAL, "--set", "seed=9"]) == 0
    captured = capsys.readouterr()
    assert captured.err == f"{LOCAL}: ok\n"
    (tmp_path / "whole.yaml").write_text(captured.out)
    assert main(["config", "check", str(tmp_path / "whole.yaml"), "--json"]) == 0
    checked = strict(capsys.readouterr().out)
    assert checked["ok"] is True
    assert checked["config"]["seed"] == 9


def test_config_schema_is_json(capsys):
    assert main(["config", "schema"]) == 0
    assert "seed" in strict(capsys.readouterr().out)["properties"]


BAD_FILES = {
    "unknown key": ("sed: 1", "sed: no key named 'sed'; did you mean 'seed'?"),
    "wrong type": ("seed: x", "seed: got 'x', allowed a whole number"),
    "unknown member": ("defense: [marvel]", "defense.0.name: no defense named 'marvel'; did you mean 'marvell'?"),
    "bad YAML": ("seed: [1\n", "line 2: "),
    "duplicate key": ("seed: 1\nseed: 2", "line 2: the key 'seed' stands twice"),
    "two attacks of one name": ("attack: [norm, norm]", "attack.1: got 'norm', allowed one entry of each name"),
    "beyond the grant": ("attack: [{name: direction, hints: 9}]", "attack.0: got an attack that needs 9 labelled rows"),
}


@pytest.mark.parametrize("command", [["config", "check"], ["simulate"]], ids=" ".join)
@pytest.mark.parametrize(("text", "message"), BAD_FILES.values(), ids=BAD_FILES)
def test_a_bad_file_is_one_line_and_exit_code_2(capsys, calls, tmp_path, command, text, message):
    path = tmp_path / "run.yaml"
    path.write_text(text)
    (line,) = refused(capsys, *command, str(path))
    assert line.startswith(f"vfl: {path}: {message}")
    assert calls == []


BAD_ARGUMENTS = {
    "no such command": (["simulat"], "No such command 'simulat'. Did you mean 'simulate'?; see vfl --help"),
    "no such option": (["simulate", "--sed", "1"], "simulate: No such option '--sed'"),
    "no such subcommand": (["config", "chek"], "config: No such command 'chek'"),
    "no subcommand": (["config"], "config: Missing command; see vfl config --help"),
    "an option without its value": (["simulate", "--seed"], "Option '--seed' requires an argument"),
    "not a number": (["simulate", "--seed", "x"], "simulate: Invalid value for '--seed': 'x' is not a valid integer"),
    "one argument too many": (["simulate", "a", "b"], "simulate: Got unexpected extra argument"),
    "no attack": (["attack", "runs"], "attack: Missing option '--attack'"),
    "no file": (["simulate", "nope.yaml"], "nope.yaml: no such file; check the path"),
    "bad setting": (["simulate", "--set", "seed"], "--set: got 'seed', allowed KEY=VALUE"),
    "bad value": (["simulate", "--set", "seed=x"], "--set: seed: got 'x', allowed a whole number"),
    "bad backend": (["simulate", "--backend", "rya"], "--backend: backend: got 'rya', allowed ray or local"),
    "bad seed": (["simulate", "--seed", "-1"], "--seed: seed: got -1, allowed 0 or more"),
    "an address without ray": (["simulate", LOCAL, "--ray-address", "auto"], "--ray-address: auto: got backend local"),
    "no such family": (["list", "defens"], "no family named 'defens'; did you mean 'defense'?"),
    "no such run": (["show", "nope"], "nope: no such run directory; check the path"),
    "no run": (["show", str(ROOT)], f"{ROOT}: not a run directory"),
    "resume of nothing": (["simulate", "--resume", "nope"], "nope: no such run directory"),
}


@pytest.mark.parametrize(("arguments", "message"), BAD_ARGUMENTS.values(), ids=BAD_ARGUMENTS)
def test_bad_arguments_are_one_line_and_exit_code_2(capsys, calls, arguments, message):
    (line,) = refused(capsys, *arguments)
    assert line.startswith(f"vfl: {message}")
    assert calls == []


def test_several_mistakes_are_several_lines(capsys):
    lines = refused(capsys, "simulate", "--set", "seed=x", "--set", "train.epochs=-1")
    assert lines == [
        "vfl: --set: seed: got 'x', allowed a whole number; write it without quotes or a point",
        "vfl: --set: train.epochs: got -1, allowed 0 or more; change it",
    ]


def test_out_refuses_what_stands_there(capsys, calls, tmp_path):
    (tmp_path / "file").write_text("x")
    (line,) = refused(capsys, "simulate", LOCAL, "--out", str(tmp_path))
    said = f"vfl: --out: {tmp_path}: got a directory that is not empty, allowed a new or an empty directory; "
    assert line == f"{said}name another one"
    (tmp_path / "config.yaml").write_text("seed: 0")
    (line,) = refused(capsys, "simulate", LOCAL, "--out", str(tmp_path))
    assert line == f"{said}name another one, or go on with it: --resume {tmp_path}"
    (line,) = refused(capsys, "simulate", LOCAL, "--out", str(tmp_path / "file"))
    assert "got a file" in line
    (tmp_path / "empty").mkdir()
    assert main(["simulate", LOCAL, "--out", str(tmp_path / "empty"), "--json"]) == 0


@pytest.mark.parametrize(
    "beside",
    [[LOCAL], ["--set", "seed=1"], ["--seed", "0"], ["--backend", "ray"], ["--out", "x"]],
    ids=["CONFIG", "--set", "--seed", "--backend", "--out"],
)
def test_resume_refuses_any_configuration_beside_it(capsys, calls, unfinished, beside):
    (line,) = refused(capsys, "simulate", "--resume", str(unfinished), *beside)
    name = "CONFIG" if beside == [LOCAL] else beside[0]
    assert line.startswith(f"vfl: --resume: got {name} beside it, allowed --ray-address; a run goes on from ")
    assert calls == []


def test_an_unfinished_run_has_no_row_and_names_resume(capsys, calls, unfinished):
    for arguments in (["show"], ["attack", "--attack", "norm"]):
        (line,) = refused(capsys, *arguments, str(unfinished))
        assert "has not finished" in line
        assert line.endswith(f"vfl simulate --resume {unfinished}")


def test_attack_takes_no_setting_of_the_training(capsys, calls, finished):
    (line,) = refused(capsys, "attack", str(finished), "--attack", "norm", "--set", "train.epochs=3")
    assert line.startswith("vfl: --set: got 'train.epochs=3', allowed keys below attack and threat")
    (line,) = refused(capsys, "attack", str(finished), "--attack", "norm", "--attack", "norm")
    assert "attack.1: got 'norm', allowed one entry of each name" in line
    (line,) = refused(capsys, "attack", str(finished), "--attack", "nrm")
    assert "no attack named 'nrm'; did you mean 'norm'?" in line


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (ConfigError("got 1, allowed 2; change it", key="seed"), 2, f"vfl: {LOCAL}: seed: got 1, allowed 2; change it"),
        (DataError("no column 'x'", where="a.csv"), 2, "vfl: a.csv: no column 'x'"),
        (PartyError("publisher died\nat step 3"), 3, "vfl: publisher died at step 3"),
        (KeyboardInterrupt(), 130, "vfl: interrupted"),
    ],
    ids=["config", "data", "party", "Ctrl-C"],
)
def test_errors_of_a_run_have_their_exit_codes(capsys, calls, error, code, line):
    calls.error = error
    assert main(["simulate", LOCAL, "--json"]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [line]


def test_an_unexpected_error_keeps_its_traceback(calls):
    calls.error = ZeroDivisionError("a bug")
    with pytest.raises(ZeroDivisionError):
        main(["simulate", LOCAL])


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_help_has_examples(capsys, command):
    assert main([*command, "--help"]) == 0
    text = capsys.readouterr().out
    assert "Examples:\n    vfl " in text
    assert "--json" in text or command == ["deploy", "party"]  # which serves until it is stopped, and answers nothing
    assert "\\[" not in text


def test_help_without_a_command(capsys):
    assert main([]) == 0
    text = capsys.readouterr().out
    assert text.startswith("Usage: vfl")
    assert all(command[0] in text for command in COMMANDS)
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("vfl ")


def test_every_command_is_tested_here():
    group = typer.main.get_command(cli.app)
    groups = {name: command.commands for name, command in group.commands.items() if hasattr(command, "commands")}
    found = [[name] for name in group.commands if name not in groups]
    found += [[name, command] for name, commands in groups.items() for command in commands]
    assert sorted(found) == sorted(COMMANDS)


@pytest.mark.parametrize(
    "arguments", [["--help"], ["list", "--json"], ["simulate", "--set", "x"], ["config", "schema"]]
)
def test_light_commands_import_nothing_heavy(arguments):
    code = (
        "import sys; from experiments.cli import main; main(sys.argv[1:]); "
        "sys.exit(sum(name in sys.modules for name in ('torch', 'flwr', 'ray', 'pandas', 'opacus', 'sklearn')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=ROOT, check=False, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
