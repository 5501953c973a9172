"""Confine this process to a few folders, for good: what an attack runs under.

Two layers. Landlock, where the Linux kernel has it, refuses at the system call every file outside the granted folders
and every TCP connection, whatever language asks. Python's audit hook stands everywhere, refuses by name, and also
refuses importing what could load data. Its peeks are remembered, so an attack that swallows the refusal is refused all
the same. The hook alone, without Landlock, stops what Python code does by accident or by plain means, not an attack
that sets out to take Python apart.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.abc import MetaPathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from vfl.errors import PeekError

_CREATE, _ADD_RULE, _RESTRICT = 444, 445, 446
_NO_NEW_PRIVILEGES = 38
_EXECUTE, _WRITE, _READ, _LIST = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_FILE_RIGHTS = _EXECUTE | _WRITE | _READ | 1 << 14 | 1 << 15
_RIGHTS_BY_ABI = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1, 5: (1 << 16) - 1}
_CODE_SUFFIXES = (".py", ".pyc", ".so", ".pyi", ".pth")
_SYSTEM_FILES = ("/dev/null", "/dev/urandom", "/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/etc/localtime")
_SYSTEM_FOLDERS = ("/sys/devices/system/cpu", "/sys/fs/cgroup", "/usr/lib", "/usr/lib64", "/lib", "/lib64")
_METADATA_SUFFIXES = (".dist-info", ".egg-info")
_FORBIDDEN_EVENTS = (
    "socket.",
    "subprocess.",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.fork",
    "os.kill",
    "os.link",
    "ctypes.",
)
_FORBIDDEN_IMPORTS = (
    "vfl.data",
    "vfl.referee",
    "parties",
    "experiments",
    "ray",
    "pyarrow",
    "sklearn.datasets",
)


class _Ruleset(ctypes.Structure):
    _fields_ = (("fs", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"
    _fields_ = (("access", ctypes.c_uint64), ("parent", ctypes.c_int32))


@dataclass(slots=True)
class Watch:
    """What a confined process reached for and was refused."""

    peeks: list[str] = field(default_factory=list[str])

    def refuse(self, what: str) -> None:
        """Remember and refuse a peek."""
        self.peeks.append(what)
        raise PeekError(f"tried {what}; an attack sees its view and nothing else")


class _Imports(MetaPathFinder):
    """Refuses imports by name; the audit hook alone does not hear of those that go through `importlib`."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> None:
        """Find nothing, so that the usual finders are asked, unless the module must not be imported."""
        if f"{fullname}.".startswith(tuple(f"{name}." for name in _FORBIDDEN_IMPORTS)):
            self._watch.refuse(f"importing {fullname}")


def confine(read: Sequence[Path], write: Sequence[Path], code: Sequence[Path]) -> Watch:
    """Confine this process for the rest of its life; returns the record of what it is refused from here on.

    `read` and `write` are folders of data; `code` are files and folders that modules may be imported from, besides the
    interpreter's own.
    """
    sys.dont_write_bytecode = True  # an import would write beside its source, which is a peek
    places = [Path(prefix) for prefix in {sys.prefix, sys.base_prefix, sys.exec_prefix}]
    hidden = _data_folders()
    shared = [part for place in (*places, *map(Path, _SYSTEM_FOLDERS)) for part in _around(place, hidden)]
    _landlock([*read, *code, *shared, *map(Path, _SYSTEM_FILES)], write, places)
    watch = Watch()
    modules = _real([*places, *code])
    bounds = (_real([*read, *map(Path, (*_SYSTEM_FOLDERS, *_SYSTEM_FILES))]), _real(write), modules)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and not isinstance(arguments[0], int):
            asked, writes = _text(arguments[0]), _writes(arguments[1], arguments[2])
            if asked is None or not _allowed(asked, writes, arguments[1] is None, bounds):
                watch.refuse(f"{'writing' if writes else 'reading'} {arguments[0]}")
        elif event.startswith(_FORBIDDEN_EVENTS):
            watch.refuse(event)
        elif event == "import":
            imports.find_spec(str(arguments[0]), None)

    imports = _Imports(watch)
    sys.meta_path.insert(0, imports)
    sys.addaudithook(hook)
    return watch


def landlock_abi() -> int:
    """Return the kernel's Landlock version, 0 where it has none."""
    if platform.system() != "Linux" or platform.machine() not in ("x86_64", "aarch64"):
        return 0
    return max(0, ctypes.CDLL(None).syscall(_CREATE, None, 0, 1))


def _data_folders() -> tuple[str, ...]:
    """Return the folders of installed packages that hold data sets: ours, and scikit-learn's."""
    sklearn = importlib.util.find_spec("sklearn")
    theirs = [Path(sklearn.origin).parent / "datasets"] if sklearn and sklearn.origin else []
    return _real([Path(__file__).parent.parent / "vfl" / "data", *theirs])


def _around(place: Path, hidden: Sequence[str]) -> list[Path]:
    """Return what to grant for all of `place` but the hidden folders: Landlock can grant and not take back."""
    if not _holds(place, hidden):
        return [place]
    if str(place) in hidden:
        return []
    children = [child for child in place.resolve().iterdir() if not (child.is_symlink() and _holds(child, hidden))]
    return [part for child in children for part in _around(child, hidden)]


def _holds(place: Path, folders: Sequence[str]) -> bool:
    real = os.path.realpath(place)
    return any(_inside(folder, (real,)) for folder in folders)


def _landlock(readable: Sequence[Path], writable: Sequence[Path], listable: Sequence[Path]) -> None:
    abi = landlock_abi()
    if not abi:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    handled = _RIGHTS_BY_ABI[min(abi, 5)]
    rules = _Ruleset(handled, 3 if abi >= 4 else 0, 3 if abi >= 6 else 0)
    size = 24 if abi >= 6 else 16 if abi >= 4 else 8
    ruleset = libc.syscall(_CREATE, ctypes.byref(rules), size, 0)
    if ruleset < 0:
        raise OSError(ctypes.get_errno(), "cannot create a Landlock ruleset")
    for path in readable:
        _grant(libc, ruleset, path, (_EXECUTE | _READ | _LIST) & handled)
    for path in listable:
        _grant(libc, ruleset, path, _LIST)
    for path in writable:
        _grant(libc, ruleset, path, handled & ~_EXECUTE)
    if libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) or libc.syscall(_RESTRICT, ruleset, 0):
        raise OSError(ctypes.get_errno(), "cannot restrict this process with Landlock")
    os.close(ruleset)


def _grant(libc: ctypes.CDLL, ruleset: int, path: Path, access: int) -> None:
    if not path.exists():
        return
    parent = os.open(path, os.O_PATH | os.O_CLOEXEC)
    rule = _Beneath(access if path.is_dir() else access & _FILE_RIGHTS, parent)
    if libc.syscall(_ADD_RULE, ruleset, 1, ctypes.byref(rule), 0):
        raise OSError(ctypes.get_errno(), f"cannot grant {path}")
    os.close(parent)


def _real(paths: Sequence[Path]) -> tuple[str, ...]:
    return tuple(os.path.realpath(path) for path in paths)


def _writes(mode: object, flags: object) -> bool:
    if isinstance(mode, str):
        return any(letter in mode for letter in "wax+")
    return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


def _allowed(asked: str, writes: bool, low_level: bool, bounds: tuple[tuple[str, ...], ...]) -> bool:
    data, out, modules = bounds
    path = os.path.realpath(asked)
    if _inside(path, out):
        return True
    if Path(path).is_dir():  # `open` cannot read a folder; from its descriptor any file in it opens by a bare name
        return not low_level
    if writes:
        return path == "/dev/null"
    if _inside(path, data) or Path(path).parent.name.endswith(_METADATA_SUFFIXES):
        return True
    if os.path.isabs(asked) and not Path(path).exists():
        return True
    return _inside(path, modules) and (path.endswith(_CODE_SUFFIXES) or ".so." in path)


def _text(path: object) -> str | None:
    """Return a path as text, `None` for one of a type that could answer differently when it is opened."""
    return os.fsdecode(path) if isinstance(path, str | bytes) or type(path) is type(Path()) else None


def _inside(path: str, folders: Sequence[str]) -> bool:
    return any(path == folder or path.startswith(folder + os.sep) for folder in folders)
