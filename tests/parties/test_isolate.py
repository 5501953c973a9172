"""Isolated jobs: what an attack finds in its process, and that no job hears, answers or remembers another."""

from __future__ import annotations

import gc
import os
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import torch

from parties.inference import GRANT_FILE, read_guess
from parties.isolate import PACKAGE, Bounds, Isolation, code_places, folders
from vfl import checkpoint
from vfl.attacks.norm import Norm
from vfl.errors import ConfigError, PartyError, PeekError, ThreatError, VflError, WireError
from vfl.sealed import Sealed
from vfl.seeds import Seeds
from vfl.store import TranscriptWriter, load_view
from vfl.transcript import AdversaryView, Hints
from vfl.types import Envelope, Kind
from vfl.wire import encode

FORBIDDEN = ("Sealed", "Truth", "PartySpec", "Seeds", "LocalTable", "Rows", "Isolation")

JOBS = f"""
import gc, os, sys
import torch
from dataclasses import dataclass
from vfl import errors
from vfl.attacks import Guess, Needs

def echo(value):
    return value

def fail(kind, message, **facts):
    raise getattr(errors, kind)(message, **facts)

def crash():
    {{}}["absent"]

def leave(status):
    os._exit(status)

def stop():
    sys.exit(0)

def look():
    return {{
        "cwd": os.getcwd(),
        "environ": dict(os.environ),
        "forbidden": sorted({{type(o).__name__ for o in gc.get_objects()}} & set({FORBIDDEN})),
        "modules": sorted(sys.modules),
        "threads": torch.get_num_threads(),
        "pid": os.getpid(),
    }}

def mark():
    sys.modules["torch"].left_behind = True

def marked():
    return hasattr(sys.modules["torch"], "left_behind")

def forge():
    for line in range(3, 64):
        try:
            os.write(line, b'{{"result": "forged"}}\\n' * 3)
        except OSError:
            pass

def listen():
    os.set_blocking(0, False)
    return os.read(0, 100).decode()

def keep(needle):
    return len(needle)

def search(backwards):
    needle = backwards[::-1].encode()
    with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb", 0) as memory:
        spans = [line.split()[0].split("-") for line in maps if " rw" in line]
        found = 0
        for start, stop in spans:
            memory.seek(int(start, 16))
            try:
                block = memory.read(int(stop, 16) - int(start, 16))
            except OSError:
                continue
            found += block.count(needle)  # its own needle is found, too
        return found

@dataclass(frozen=True)
class Looks:
    needs = Needs()

    def infer(self, view, rng):
        found = look()
        told = [f"{{key}}={{value}}" for key, value in found["environ"].items()]
        text = "|".join([found["cwd"], *told, *found["forbidden"]]).encode()
        nothing = torch.empty(0, dtype=torch.int64)
        return Guess("labels", nothing, nothing, torch.tensor(list(text)).double())
"""


@pytest.fixture
def jobs(tmp_path, monkeypatch) -> Path:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "iso_jobs.py").write_text(JOBS)
    monkeypatch.syspath_prepend(str(tmp_path / "code"))
    return tmp_path


@pytest.fixture
def view(tmp_path) -> Path:
    """A publisher's transcript: three steps of embeddings out and gradients in."""
    folder = tmp_path / "parties" / "publisher_1" / "transcript"
    writer = TranscriptWriter(folder, 1)
    for step in range(3):
        body = torch.randn(5, 2, generator=torch.Generator().manual_seed(step))
        for way, kind, ends in (
            ("sent", Kind.EMBEDDING, ("publisher_1", "advertiser")),
            ("received", Kind.GRADIENT, ("advertiser", "publisher_1")),
        ):
            writer.add(step, way, *encode(Envelope(step, kind, *ends, torch.arange(5) + step, body), "raw"))
    writer.flush()
    return folder


def bounds(tmp_path: Path, *read: Path, module: str = "iso_jobs") -> Bounds:
    out = tmp_path / "out"
    out.mkdir(exist_ok=True)
    return Bounds(folders(read), folders([out]), module)


def infer(isolation, tmp_path: Path, view: Path, attack: dict, confined: bool = True) -> Path:
    hints = tmp_path / "hints"
    hints.mkdir(exist_ok=True)
    checkpoint.save(hints / GRANT_FILE, {"rows": torch.tensor([1]), "labels": torch.tensor([1])}, {})
    limits = bounds(
        tmp_path, view.parent, hints, module=attack["name"].partition(":")[0] if ":" in attack["name"] else ""
    )
    seen = {"folders": folders([view.parent]), "parties": ("publisher_1",), "classes": 2, "networks": {}}
    out = tmp_path / "out" / "guess"
    work = {"attack": attack, "view": seen, "grant": str(hints), "seed": 3, "out": str(out)}
    isolation.call("parties.inference:infer", work, limits if confined else None)
    return out


def test_an_attack_gives_in_isolation_what_it_gives_at_home(warm_isolation, tmp_path, view):
    got = read_guess(str(infer(warm_isolation, tmp_path, view, {"name": "norm", "positives": "majority"})))
    hints = Hints(torch.tensor([1]), torch.tensor([1]))
    expected = Norm("majority").infer(load_view([view], ("publisher_1",), 2, hints), Seeds(3).torch("infer"))
    for name in ("steps", "rows", "scores"):
        assert torch.equal(getattr(got, name), getattr(expected, name))
    assert 1 not in got.rows


def test_an_attack_finds_its_scratch_folder_no_settings_and_no_secret(warm_isolation, jobs, tmp_path, view):
    out = infer(warm_isolation, tmp_path, view, {"name": "iso_jobs:Looks"})
    text = bytes(read_guess(str(out)).scores.to(torch.uint8).tolist()).decode().split("|")
    scratch = str((tmp_path / "out").resolve())
    assert text == [scratch, "PYDANTIC_DISABLE_PLUGINS=1", f"TMPDIR={scratch}"]


def test_a_confined_process_has_loaded_nothing_that_holds_truth(warm_isolation, jobs, tmp_path):
    found = warm_isolation.call("iso_jobs:look", {}, bounds(tmp_path))
    assert found["forbidden"] == []
    loaded = [name for name in found["modules"] if name.startswith(("vfl.data", "vfl.referee", "experiments", "ray"))]
    assert [
        *loaded,
        *({"pyarrow", "sklearn", "pandas", "parties.judging", "parties.spec"} & set(found["modules"])),
    ] == []
    assert found["threads"] == 1


def test_the_look_would_find_a_secret_where_there_is_one(warm_isolation, jobs):
    """The control: here, and in the referee's own jobs, what must not be there is there."""
    secret = Sealed(Seeds(0))
    names = {type(found).__name__ for found in gc.get_objects()}
    assert {"Sealed", "Seeds", "Isolation"} <= names
    assert secret.open() == Seeds(0)
    assert "vfl.referee" in warm_isolation.call("iso_jobs:look", {})["modules"]


def test_settings_reach_no_job(warm_isolation, jobs, tmp_path, monkeypatch):
    """`VFL_DATA` says where data are: servers are started without it, and a confined job without any setting."""
    started = []
    monkeypatch.setenv("VFL_DATA", "/somewhere/secret")
    monkeypatch.setattr("subprocess.Popen", lambda *command, env, **options: started.append(env))
    Isolation()
    assert len(started) == 2
    for environ in started:
        assert not any(name.startswith("VFL_") for name in environ)
        assert environ["PATH"] == os.environ["PATH"]
    confined = warm_isolation.call("iso_jobs:look", {}, bounds(tmp_path))["environ"]
    assert set(confined) == {"PYDANTIC_DISABLE_PLUGINS", "TMPDIR"}


def leaves(value: object) -> set[type]:
    if isinstance(value, tuple):
        return {kind for each in value for kind in leaves(each)}
    if hasattr(type(value), "__dataclass_fields__"):
        return {kind for field in fields(value) for kind in leaves(getattr(value, field.name))}
    return {type(value)}


def test_a_view_is_plain_values_and_has_no_place_for_a_secret(view):
    seen = load_view([view], ("publisher_1",), 2)
    assert {field.name for field in fields(AdversaryView)} == {
        "parties",
        "classes",
        "sent",
        "received",
        "hints",
        "loss_reduction",
        "own",
    }
    assert {field.name for field in fields(Envelope)} == {"step", "kind", "src", "dst", "rows", "body"}
    assert not hasattr(seen, "__dict__")
    assert leaves(seen) == {str, int, Kind, torch.Tensor, dict, type(None)}
    assert seen.own == seen.hints.victims == {}
    assert len(seen.hints.labels) == 0


@pytest.mark.parametrize("confined", [True, False])
def test_results_are_json_and_arguments_arrive(warm_isolation, jobs, tmp_path, confined):
    value = {"a": [1, 2.5, None, "x\n"], "b": {"c": True}}
    assert warm_isolation.call("iso_jobs:echo", {"value": value}, bounds(tmp_path) if confined else None) == value
    big = "x" * 3_000_000
    assert warm_isolation.call("iso_jobs:echo", {"value": big}, bounds(tmp_path) if confined else None) == big


@pytest.mark.parametrize("confined", [True, False])
@pytest.mark.parametrize("kind", [ConfigError, ThreatError])
def test_user_errors_keep_type_key_and_place(warm_isolation, jobs, tmp_path, kind, confined):
    facts = {"kind": kind.__name__, "message": "got 3", "key": "attack.0", "where": "run.yaml"}
    with pytest.raises(VflError) as caught:
        warm_isolation.call("iso_jobs:fail", facts, bounds(tmp_path) if confined else None)
    assert type(caught.value) is kind
    assert (caught.value.message, caught.value.key, caught.value.where) == ("got 3", "attack.0", "run.yaml")


@pytest.mark.parametrize("kind", [WireError, PartyError, PeekError, VflError])
def test_other_errors_of_ours_keep_their_type(warm_isolation, jobs, tmp_path, kind):
    with pytest.raises(VflError, match=r"^it was so$") as caught:
        warm_isolation.call("iso_jobs:fail", {"kind": kind.__name__, "message": "it was so"}, bounds(tmp_path))
    assert type(caught.value) is kind


@pytest.mark.parametrize("confined", [True, False])
def test_any_other_error_is_told_by_its_last_line(warm_isolation, jobs, tmp_path, confined):
    with pytest.raises(PartyError, match="KeyError: 'absent'"):
        warm_isolation.call("iso_jobs:crash", {}, bounds(tmp_path) if confined else None)


def test_an_error_inside_our_own_code_is_told_too(warm_isolation, tmp_path, view):
    """Reading the lines of a traceback must not count as a peek."""
    with pytest.raises(PartyError, match="TypeError"):
        warm_isolation.call("parties.inference:infer", {"attack": {"name": "norm"}}, bounds(tmp_path, view, module=""))
    broken = {"folders": 3, "parties": ("publisher_1",), "classes": 2}
    work = {"attack": {"name": "norm"}, "view": broken, "grant": "", "seed": 0, "out": ""}
    with pytest.raises(PartyError, match="TypeError: 'int' object is not iterable"):
        warm_isolation.call("parties.inference:infer", work, bounds(tmp_path, view, module=""))


@pytest.mark.parametrize(
    ("job", "given", "confined"),
    [
        ("leave", {"status": 0}, True),
        ("leave", {"status": 9}, True),
        ("leave", {"status": 0}, False),
        ("stop", {}, True),
    ],
)
def test_a_job_that_dies_fails_its_party_and_the_next_one_runs(warm_isolation, jobs, tmp_path, job, given, confined):
    limits = bounds(tmp_path) if confined else None
    with pytest.raises(PartyError, match="died without an answer"):
        warm_isolation.call(f"iso_jobs:{job}", given, limits)
    assert warm_isolation.call("iso_jobs:echo", {"value": 5}, limits) == 5


def test_jobs_share_no_process_and_leave_nothing_behind(warm_isolation, jobs, tmp_path):
    limits = bounds(tmp_path)
    pids = [warm_isolation.call("iso_jobs:look", {}, limits)["pid"] for _ in range(2)]
    assert pids[0] != pids[1]
    warm_isolation.call("iso_jobs:mark", {}, limits)
    assert warm_isolation.call("iso_jobs:marked", {}, limits) is False


@pytest.mark.parametrize("confined", [True, False])
def test_a_job_cannot_answer_for_the_next(warm_isolation, jobs, tmp_path, confined):
    limits = bounds(tmp_path) if confined else None
    with pytest.raises(PartyError):
        warm_isolation.call("iso_jobs:forge", {}, limits)
    assert warm_isolation.call("iso_jobs:echo", {"value": "true"}, limits) == "true"


def test_a_job_hears_no_other_request(warm_isolation, jobs, tmp_path):
    assert warm_isolation.call("iso_jobs:listen", {}, bounds(tmp_path)) == ""


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs Linux's view of a process's memory")
def test_no_job_finds_an_earlier_request_in_its_memory(warm_isolation, jobs):
    needle = "needle-" + "4f1c" * 40
    own = warm_isolation.call("iso_jobs:search", {"backwards": needle[::-1]})
    for _ in range(3):
        assert warm_isolation.call("iso_jobs:keep", {"needle": needle * 20_000}) == 20_000 * len(needle)
    assert warm_isolation.call("iso_jobs:search", {"backwards": needle[::-1]}) == own


def test_code_places_find_a_module_without_running_its_package(tmp_path, monkeypatch):
    package = tmp_path / "peeking_pkg" / "inner"
    package.mkdir(parents=True)
    (tmp_path / "peeking_pkg" / "__init__.py").write_text("raise RuntimeError('this ran')")
    (package / "__init__.py").touch()
    (package / "attack.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    ours = set(code_places(""))
    theirs = set(code_places("peeking_pkg.inner.attack")) - ours
    root = tmp_path / "peeking_pkg"
    assert theirs == {root / "__init__.py", root / "inner" / "__init__.py", root / "inner" / "attack.py"}
    assert "peeking_pkg" not in sys.modules
    assert set(code_places("no_such_pkg.attack")) == ours
    assert PACKAGE / "data" not in ours
    assert not any(place.is_relative_to(PACKAGE / "data") or place.name == "data" for place in ours)
