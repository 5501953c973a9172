"""Confine this process to a few folders, for good: what an attack runs under.

Two layers. Landlock, where the Linux kernel has it, refuses at the system call every file outside the granted folders
and every TCP connection, whatever language asks. Python's audit hook stands everywhere, refuses by name, and also
refuses what Landlock cannot tell apart: data files that packages ship, and importing what could load them. A peek is
remembered, so an attack that swallows the refusal is refused all the same.
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vfl.errors import PeekError

_CREATE, _ADD_RULE, _RESTRICT = 444, 445, 446
_NO_NEW_PRIVILEGES = 38
_EXECUTE, _WRITE, _READ, _LIST = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_FILE_RIGHTS = _EXECUTE | _WRITE | _READ | 1 << 14 | 1 << 15
_RIGHTS_BY_ABI = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1, 5: (1 << 16) - 1}
_CODE_SUFFIXES = (".py", ".pyc", ".so", ".pyi", ".pth")
_SYSTEM_FILES = ("/dev/null", "/dev/urandom", "/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/etc/localtime")
_SYSTEM_FOLDERS = ("/sys/devices/system/cpu", "/sys/fs/cgroup", "/proc/self/", "/usr/lib", "/lib")
_FORBIDDEN_EVENTS = (
    "socket.",
    "subprocess.",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.fork",
    "os.kill",
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
    "ctypes.",
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


def confine(read: Sequence[Path], write: Sequence[Path], code: Sequence[Path]) -> Watch:
    """Confine this process for the rest of its life; returns the record of what it is refused from here on.

    `read` and `write` are folders of data; `code` are files and folders that modules may be imported from, besides the
    interpreter's own.
    """
    places = [Path(prefix) for prefix in {sys.prefix, sys.base_prefix, sys.exec_prefix}]
    _landlock([*read, *places, *code, *map(Path, (*_SYSTEM_FOLDERS, *_SYSTEM_FILES))], write)
    watch = Watch()
    data, out = _real(read), _real(write)
    modules = _real([*places, *code])

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(arguments[0], str | bytes):
            path = os.path.realpath(os.fsdecode(arguments[0]))
            writes = _writes(arguments[1], arguments[2])
            if not _allowed(path, writes, (data, out, modules)):
                watch.refuse(f"{'writing' if writes else 'reading'} {path}")
        elif event.startswith(_FORBIDDEN_EVENTS):
            watch.refuse(event)
        elif event == "import" and f"{arguments[0]}.".startswith(tuple(f"{name}." for name in _FORBIDDEN_IMPORTS)):
            watch.refuse(f"importing {arguments[0]}")

    sys.addaudithook(hook)
    return watch


def landlock_abi() -> int:
    """Return the kernel's Landlock version, 0 where it has none."""
    if platform.system() != "Linux" or platform.machine() not in ("x86_64", "aarch64"):
        return 0
    return max(0, ctypes.CDLL(None).syscall(_CREATE, None, 0, 1))


def _landlock(readable: Sequence[Path], writable: Sequence[Path]) -> None:
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


def _allowed(path: str, writes: bool, places: tuple[tuple[str, ...], ...]) -> bool:
    data, out, modules = places
    if _inside(path, out):
        return True
    if writes:
        return path == "/dev/null"
    if _inside(path, data) or path in _SYSTEM_FILES or path.startswith(_SYSTEM_FOLDERS):
        return True
    return _inside(path, modules) and (path.endswith(_CODE_SUFFIXES) or Path(path).is_dir() or ".so." in path)


def _inside(path: str, folders: Sequence[str]) -> bool:
    return any(path == folder or path.startswith(folder + os.sep) for folder in folders)
