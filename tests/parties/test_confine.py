"""No peeking: an attack in a module of its own reaches for the truth in every way we know, and is refused.

Each way is shown to reach it where the guard is left out, so each refusal is the guard's doing.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from parties.confine import landlock_abi
from parties.inference import GRANT_FILE, read_guess
from parties.isolate import Bounds, folders
from vfl import checkpoint
from vfl.errors import PeekError
from vfl.store import TranscriptWriter

SECRET = [8, 6, 7, 5, 3, 0, 9]

ATTACK = """
import ctypes, importlib, importlib.util, io, os, socket, subprocess, tempfile
from dataclasses import dataclass
from pathlib import Path
import numpy as np
import safetensors, safetensors.torch
import torch
from vfl.attacks import Guess, Needs

def by_descriptor(path, **options):
    line = os.open(path, os.O_RDONLY, **options)
    return os.read(line, 10_000)

def by_link(make):
    def way(path):
        make(path, "link")
        return Path("link").read_bytes()
    return way

def by_folder(path):
    folder = os.open(Path(os.getcwd()).parent, os.O_RDONLY)
    return by_descriptor("referee/truth.safetensors", dir_fd=folder)

def by_view_folder(path):
    folder = os.open(Path(os.getcwd()).parent / "view", os.O_RDONLY)
    return by_descriptor("../referee/truth.safetensors", dir_fd=folder)

class Shifty(os.PathLike):
    "A path that answers otherwise the second time it is asked."
    def __init__(self, path):
        self.answers = [path, "nothing", "nothing", "nothing", "nothing"]
    def __fspath__(self):
        return self.answers.pop(0)

def by_file_object(path):
    with io.FileIO(path) as stream:
        return stream.read()

def by_module_file(path):
    file = Path(importlib.util.find_spec("vfl").origin).parent / "data" / "adult.py"
    module = importlib.util.module_from_spec(importlib.util.spec_from_file_location("innocent", file))
    module.__spec__.loader.exec_module(module)
    return bytes([module.ROWS % 256])

def by_safe_open(path):
    with safetensors.safe_open(path, framework="pt") as stream:
        return bytes(stream.get_tensor("labels").tolist())

def by_torch_file(path):
    return bytes(torch.from_file(str(path), size=os.stat(path).st_size, dtype=torch.uint8).tolist())

def by_packaged_data(path):
    file = Path(importlib.util.find_spec("sklearn").origin).parent / "datasets" / "data" / "breast_cancer.csv"
    return by_torch_file(file)[:3]

def by_child(path):
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.write(writer, Path(path).read_bytes())
        os._exit(0)
    os.close(writer)
    return os.read(reader, 10_000)

def by_socket(path):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.send(b"out")
        return theirs.recv(3)

def by_port(path):
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
        return b"met"

def writing(path):
    Path(path).with_name("left").write_bytes(b"left")
    return Path(path).with_name("left").read_bytes()

def importing(name, attribute="__name__"):
    return lambda path: str(getattr(importlib.import_module(name), attribute)).encode()

WAYS = {
    "open": lambda path: open(path, "rb").read(),
    "open text": lambda path: open(path, encoding="latin-1").read().encode("latin-1"),
    "open bytes": lambda path: open(os.fsencode(path), "rb").read(),
    "open relative": lambda path: open(os.path.relpath(path), "rb").read(),
    "open to append": lambda path: (open(path, "ab").close(), Path(path).read_bytes())[1],
    "pathlib": lambda path: Path(path).read_bytes(),
    "os.open": by_descriptor,
    "io.FileIO": by_file_object,
    "io.FileIO of a Path": lambda path: by_file_object(Path(path)),
    "a shifty path": lambda path: by_file_object(Shifty(path)),
    "a symbolic link": by_link(os.symlink),
    "a hard link": by_link(os.link),
    "a folder's descriptor": by_folder,
    "the view's descriptor": by_view_folder,
    "numpy.fromfile": lambda path: np.fromfile(path, np.uint8).tobytes(),
    "numpy.memmap": lambda path: np.memmap(path, np.uint8, "r").tobytes(),
    "safetensors.torch": lambda path: bytes(safetensors.torch.load(open(path, "rb").read())["labels"].tolist()),
    "importing by file": by_module_file,
    "importing vfl.data": importing("vfl.data.adult", "ROWS"),
    "importing vfl.referee": importing("vfl.referee"),
    "importing pyarrow": importing("pyarrow"),
    "importing sklearn.datasets": importing("sklearn.datasets"),
    "importing parties": importing("parties.spec"),
    "importing experiments": importing("experiments.rundir"),
    "subprocess": lambda path: subprocess.run(["cat", path], capture_output=True).stdout,
    "os.system": lambda path: (os.system(f"cp {path} copy"), Path("copy").read_bytes())[1],
    "os.posix_spawn": lambda path: os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)[1].to_bytes(1, "big"),
    "os.fork": by_child,
    "socketpair": by_socket,
    "TCP": by_port,
    "ctypes": lambda path: str(ctypes.CDLL(None).getpid() == os.getpid()).encode(),
    "writing elsewhere": writing,
    "safetensors.safe_open": by_safe_open,
    "torch.from_file": by_torch_file,
    "data of a package": by_packaged_data,
}

@dataclass(frozen=True)
class Peek:
    way: str
    target: str
    scratch: str
    swallow: bool = False

    needs = Needs()

    def infer(self, view, rng):
        os.chdir(self.scratch)  # where a confined attack is anyway
        try:
            found = WAYS[self.way](self.target)
        except BaseException:
            if not self.swallow:
                raise
            found = b""
        nothing = torch.empty(0, dtype=torch.int64)
        return Guess("labels", nothing, nothing, torch.tensor(list(found)).double())

@dataclass(frozen=True)
class Works:
    "Does what an honest attack may want: files of its own, a model of its own, a library's statistics."
    target: str = ""
    needs = Needs()

    def infer(self, view, rng):
        import scipy.stats

        np.save("scratch.npy", np.arange(3))
        Path("scratch.npy").rename("kept.npy")
        with tempfile.NamedTemporaryFile() as stream:
            stream.write(np.load("kept.npy").tobytes())
        assert not Path(self.target).with_name("absent").exists()
        model = torch.nn.Linear(2, 1)
        optimizer = torch.optim.Adam(model.parameters())
        model(torch.ones(3, 2)).sum().backward()
        optimizer.step()
        nothing = torch.empty(0, dtype=torch.int64)
        score = torch.tensor([float(scipy.stats.norm.cdf(0.0))])
        return Guess("labels", nothing, nothing, score.double())
"""

RAW = {"open", "open text", "open bytes", "open relative", "open to append", "pathlib", "os.open", "os.fork"}
RAW |= {"io.FileIO", "io.FileIO of a Path", "a shifty path", "a symbolic link", "a hard link", "a folder's descriptor"}
RAW |= {"the view's descriptor", "numpy.fromfile", "numpy.memmap", "subprocess", "os.system", "torch.from_file"}
TOLD = {
    **dict.fromkeys(RAW, None),
    "safetensors.torch": bytes(SECRET),
    "safetensors.safe_open": bytes(SECRET),
    "importing by file": bytes([48_842 % 256]),
    "importing vfl.data": b"48842",
    "importing vfl.referee": b"vfl.referee",
    "importing pyarrow": b"pyarrow",
    "importing sklearn.datasets": b"sklearn.datasets",
    "importing parties": b"parties.spec",
    "importing experiments": b"experiments.rundir",
    "os.posix_spawn": b"\0",
    "socketpair": b"out",
    "TCP": b"met",
    "ctypes": b"True",
    "writing elsewhere": b"left",
    "data of a package": b"569",
}
"""What each way learns where nothing stops it; `None` stands for the bytes of the file that holds the secret."""

KERNEL = {"safetensors.safe_open", "torch.from_file", "data of a package"}
"""Ways that never pass through Python: only the kernel can refuse them."""


@pytest.fixture
def run(tmp_path, monkeypatch) -> Path:
    """A run's folders: the referee's truth, a view of nothing, and the attack's own code and scratch folder."""
    monkeypatch.syspath_prepend(str(tmp_path / "code"))
    for name in ("code", "view", "out"):
        (tmp_path / name).mkdir()
    (tmp_path / "code" / "peek_attack.py").write_text(ATTACK)
    TranscriptWriter(tmp_path / "view" / "transcript", 1).flush()
    nothing = torch.empty(0, dtype=torch.int64)
    checkpoint.save(tmp_path / "view" / GRANT_FILE, {"rows": nothing, "labels": nothing}, {})
    checkpoint.save(tmp_path / "referee" / "truth.safetensors", {"labels": torch.tensor(SECRET, dtype=torch.uint8)}, {})
    return tmp_path


def attack(isolation, run: Path, member: dict, confined: bool = True) -> bytes:
    """Return what an attack learned."""
    guess = str(run / "out" / "guess")
    work = {
        "attack": {"target": str(run / "referee" / "truth.safetensors"), **member},
        "view": {"folders": folders([run / "view"]), "parties": ("publisher_1",), "classes": 2, "networks": {}},
        "grant": str(run / "view"),
        "seed": 0,
        "out": guess,
    }
    limits = Bounds(folders([run / "view"]), folders([run / "out"]), "peek_attack")
    isolation.call("parties.inference:infer", work, limits if confined else None)
    return bytes(read_guess(guess).scores.to(torch.uint8).tolist())


def peek(isolation, run: Path, way: str, confined: bool = True, swallow: bool = False) -> bytes:
    member = {"name": "peek_attack:Peek", "way": way, "scratch": str(run / "out"), "swallow": swallow}
    return attack(isolation, run, member, confined)


def needs_landlock(way: str) -> None:
    if way in KERNEL and not landlock_abi():
        pytest.skip("this kernel has no Landlock: nothing refuses what does not pass through Python")


@pytest.mark.parametrize("way", sorted(TOLD))
def test_every_way_to_the_truth_is_refused(warm_isolation, run, way):
    needs_landlock(way)
    with pytest.raises(PeekError):
        peek(warm_isolation, run, way)
    assert not (run / "out" / "guess").exists()
    assert sorted(path.name for path in (run / "referee").iterdir()) == ["truth.safetensors"]


SWALLOWED = (
    "open",
    "a shifty path",
    "a folder's descriptor",
    "importing vfl.data",
    "subprocess",
    "os.fork",
    "socketpair",
)


@pytest.mark.parametrize("way", SWALLOWED)
def test_a_refusal_that_is_swallowed_is_a_refusal(warm_isolation, run, way):
    with pytest.raises(PeekError, match="an attack sees its view and nothing else"):
        peek(warm_isolation, run, way, swallow=True)


@pytest.mark.parametrize("way", sorted(KERNEL))
def test_what_only_the_kernel_refuses_teaches_nothing(warm_isolation, run, way):
    needs_landlock(way)
    assert peek(warm_isolation, run, way, swallow=True) == b""


@pytest.mark.parametrize("way", sorted(TOLD))
def test_without_the_guard_every_way_works(warm_isolation, run, way):
    expected = TOLD[way] or (run / "referee" / "truth.safetensors").read_bytes()
    assert peek(warm_isolation, run, way, confined=False) == expected


def test_an_honest_attack_works(warm_isolation, run):
    guess = run / "out" / "guess"
    attack(warm_isolation, run, {"name": "peek_attack:Works"})
    assert read_guess(str(guess)).scores.tolist() == [0.5]
    assert (run / "out" / "kept.npy").exists()


def test_the_package_an_attack_is_in_runs_confined_too(warm_isolation, run):
    """Its `__init__` would otherwise read the truth before the guard is up, and hand it on."""
    package = run / "code" / "peek_pkg"
    package.mkdir()
    truth = run / "referee" / "truth.safetensors"
    (package / "__init__.py").write_text(f"STOLEN = open({str(truth)!r}, 'rb').read()")
    (package / "inner.py").write_text("from peek_pkg import STOLEN\nfrom peek_attack import Works as Inner\n")
    limits = Bounds(folders([run / "view"]), folders([run / "out"]), "peek_pkg.inner")
    work = {"attack": {"name": "peek_pkg.inner:Inner"}, "grant": "", "seed": 0, "out": "", "view": {}}
    with pytest.raises(PeekError, match=r"reading .*truth\.safetensors"):
        warm_isolation.call("parties.inference:infer", work, limits)


def test_the_first_peek_is_named(warm_isolation, run):
    with pytest.raises(PeekError, match=r"tried reading .*/referee/truth\.safetensors; an attack sees its view"):
        peek(warm_isolation, run, "open")
    with pytest.raises(PeekError, match=r"tried importing vfl\.data"):
        peek(warm_isolation, run, "importing vfl.data")
    with pytest.raises(PeekError, match=r"tried writing .*/referee/left"):
        peek(warm_isolation, run, "writing elsewhere")
