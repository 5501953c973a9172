"""Run work in clean processes: attacks that hold only their view, and the referee that alone opens truth.

Two warm servers a run (or a sweep's worker): one has torch imported and nothing of the run, for attacks; the other what
the referee needs besides. Each job is a fork, so no job sees another's memory and none pays for the imports. An
attack's fork is confined before its code is loaded.
"""

from __future__ import annotations

import importlib
import json
import os
import pickle
import struct
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path
from typing import IO, Any, cast

from vfl import errors
from vfl.errors import PartyError, PeekError, UserError, VflError

PACKAGE = Path(__file__).parent.parent / "vfl"


@dataclass(frozen=True, slots=True)
class Bounds:
    """Folders that a confined job may read and write, and the out-of-tree module its code comes from, if any."""

    read: tuple[str, ...]
    write: tuple[str, ...]
    module: str = ""


class Isolation:
    """A warm server of forked jobs. Use as a context manager; one job at a time."""

    def __init__(self) -> None:
        environment = {key: value for key, value in os.environ.items() if not key.startswith("VFL_")}
        environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
        self._clean, self._referee = (
            subprocess.Popen(
                [sys.executable, "-m", "parties.isolate", *preloaded],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=environment,
                start_new_session=True,  # Ctrl-C in the terminal stops the run, which then stops the server
            )
            for preloaded in (
                ("pydantic.type_adapter", "torch._dynamo"),
                ("parties.judging", "pydantic.type_adapter", "scipy.special", "sklearn.datasets"),
            )
        )

    def __enter__(self) -> Isolation:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def call(self, function: str, arguments: Mapping[str, Any], bounds: Bounds | None = None) -> Any:  # noqa: ANN401 - JSON
        """Run `module:function` with keyword `arguments` in a fresh process and return its JSON-able result.

        Errors of ours raised there are raised here; anything else becomes a `PartyError` with its last line. With
        `bounds` the process is confined first, and a peek raises `PeekError` even if the job swallowed it.
        """
        request = pickle.dumps(_Request(function, dict(arguments), bounds, tuple(sys.path)))
        server = self._clean if bounds else self._referee
        stdin, stdout = cast(IO[bytes], server.stdin), cast(IO[bytes], server.stdout)
        try:
            stdin.write(struct.pack("<Q", len(request)) + request)
            stdin.flush()
            answer = stdout.readline()
        except BrokenPipeError:
            answer = b""
        if not answer:
            raise PartyError("the process that runs attacks and the referee died; run the command again")
        try:
            parsed = json.loads(answer)
        except ValueError:
            raise PartyError("a job gave an answer that cannot be read; run the command again") from None
        return _result(parsed)

    @property
    def alive(self) -> bool:
        """Whether both servers still run: one that the system ended for its memory answers no job again."""
        return all(server.poll() is None for server in (self._clean, self._referee))

    def close(self) -> None:
        """Stop both servers."""
        for server in (self._clean, self._referee):
            cast(IO[bytes], server.stdin).close()
            cast(IO[bytes], server.stdout).close()
        for server in (self._clean, self._referee):
            server.wait(timeout=60)


@dataclass(frozen=True, slots=True)
class _Request:
    function: str
    arguments: dict[str, Any]
    bounds: Bounds | None
    path: tuple[str, ...]


def serve(requests: IO[bytes], answers: IO[bytes]) -> None:
    """Answer requests until the other end closes.

    `requests` must be unbuffered: each is read by its own job, so that no job finds an earlier one in its memory.
    """
    while header := _exactly(requests, 8):
        answers.write(_fork(struct.unpack("<Q", header)[0], requests, answers) + b"\n")
        answers.flush()


def _exactly(stream: IO[bytes], size: int) -> bytes:
    found = bytearray()
    while len(found) < size and (part := stream.read(size - len(found))):
        found += part
    return bytes(found)


def _fork(size: int, requests: IO[bytes], answers: IO[bytes]) -> bytes:
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        request = _exactly(requests, size)
        nowhere = os.open(os.devnull, os.O_RDWR)
        for line in (reader, requests.fileno(), answers.fileno()):  # a job must not hear or answer for another
            os.dup2(nowhere, line)
        _answer(writer, _run(request))
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        answer = stream.read()
    os.waitpid(child, 0)
    if answer and b"\n" not in answer:  # a second line would be taken for the next job's answer
        return answer
    return json.dumps({"error": "PartyError", "message": "a job died without an answer"}).encode()


def _answer(writer: int, answer: bytes) -> None:
    with os.fdopen(writer, "wb") as stream:
        stream.write(answer)


def _run(request: bytes) -> bytes:
    try:
        asked = cast(_Request, pickle.loads(request))
        sys.path[:] = asked.path
        result = _confined(asked, asked.bounds) if asked.bounds else _resolve(asked.function)(**asked.arguments)
        return json.dumps({"result": result}).encode()
    except VflError as error:
        facts = {"key": error.key, "where": error.where} if isinstance(error, UserError) else {}
        message = error.message if isinstance(error, UserError) else str(error)
        return json.dumps({"error": type(error).__name__, "message": message, **facts}).encode()
    except Exception:
        sys.stderr.write(traceback.format_exc())
        last = traceback.format_exc().strip().splitlines()[-1]
        return json.dumps({"error": "PartyError", "message": last}).encode()


def _confined(asked: _Request, bounds: Bounds) -> object:
    from parties.confine import confine

    work = _resolve(asked.function)
    os.environ.clear()
    os.environ["PYDANTIC_DISABLE_PLUGINS"] = "1"  # looking for plugins would read files outside the bounds
    os.environ["TMPDIR"] = tempfile.tempdir = bounds.write[0]  # what was imported may have asked for it before
    os.chdir(bounds.write[0])
    watch = confine(
        [Path(path) for path in bounds.read], [Path(path) for path in bounds.write], code_places(bounds.module)
    )
    try:
        result = work(**asked.arguments)
    except Exception as error:
        if watch.peeks:
            raise PeekError(f"tried {watch.peeks[0]}; an attack sees its view and nothing else") from None
        if _denied(error):
            raise PeekError(f"was refused by the kernel ({error}); an attack sees its view and nothing else") from None
        raise
    if watch.peeks:
        raise PeekError(f"tried {watch.peeks[0]}; an attack sees its view and nothing else")
    return result


def _denied(error: Exception) -> bool:
    """Whether the kernel refused a file: some libraries then say that there is none."""
    absent = str(error).rpartition("No such file or directory: ")[2]
    return "ermission denied" in str(error) or (isinstance(error, FileNotFoundError) and Path(absent).exists())


def code_places(module: str) -> list[Path]:
    """Return what a confined job may import from: our own core and attack families, and an out-of-tree module's file.

    The module and the packages it is in are found, not imported: their code runs confined.
    """
    families = ("attacks", "metrics", "models", "privacy", "defenses")
    found = [*PACKAGE.glob("*.py"), *(PACKAGE / family for family in families), *Path(__file__).parent.glob("*.py")]
    parts, places = module.split(".") if module else [], None
    for depth in range(1, len(parts) + 1):
        spec = PathFinder.find_spec(".".join(parts[:depth]), places)
        if spec is None:
            break
        found += [Path(spec.origin)] if spec.origin else []
        places = spec.submodule_search_locations
    return found


def _resolve(function: str) -> Callable[..., object]:
    module, _, name = function.partition(":")
    return getattr(importlib.import_module(module), name)


def _result(answer: Mapping[str, Any]) -> Any:  # noqa: ANN401 - whatever JSON the job returned
    if "error" not in answer:
        return answer["result"]
    kind: type[VflError] = getattr(errors, answer["error"], PartyError)
    if issubclass(kind, UserError):
        raise kind(answer["message"], key=answer["key"], where=answer["where"])
    raise kind(answer["message"])


def folders(paths: Sequence[Path]) -> tuple[str, ...]:
    """Return paths as absolute text, for `Bounds`."""
    return tuple(str(path.resolve()) for path in paths)


if __name__ == "__main__":
    import torch

    torch.set_num_threads(1)
    for module in ("parties.inference", *sys.argv[1:]):
        importlib.import_module(module)
    protocol = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    with os.fdopen(0, "rb", buffering=0) as lines:
        serve(lines, protocol)
    os._exit(0)  # taking torch down in order takes a second, and nothing here waits to be written
