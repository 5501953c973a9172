"""Run work in clean processes: attacks that hold only their view, and the referee that alone opens truth.

Warm servers of a run (or a sweep's worker) have code imported and nothing of the run; each job is a fork of one,
so no job sees another's memory and none pays for the import. An attack's fork is confined before its code is loaded.
"""

from __future__ import annotations

import importlib
import json
import os
import pickle
import struct
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path
from typing import IO, Any, cast

from vfl import errors
from vfl.errors import PartyError, PeekError, UserError, VflError

PACKAGE = Path(__file__).parent.parent / "vfl"
CONFINED = ("parties.inference", "parties.confine", "pydantic")
JUDGING = ("parties.judging", "pydantic", "scipy.special", "sklearn.datasets", "vfl.metrics.leak_auc")
"""What the two servers import before their first job; nothing that a confined job must not see is in the first."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Folders that a confined job may read and write, and the out-of-tree module its code comes from, if any."""

    read: tuple[str, ...]
    write: tuple[str, ...]
    module: str = ""


class Isolation:
    """Warm servers of forked jobs, one for confined jobs and one for the referee's; one job at a time.

    Each has imported what its jobs need, the referee's nothing that a confined job could see. Use as a context manager.
    """

    def __init__(self) -> None:
        self._servers: dict[tuple[str, ...], subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Isolation:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def call(self, function: str, arguments: Mapping[str, Any], bounds: Bounds | None = None) -> Any:  # noqa: ANN401 - JSON
        """Run `module:function` with keyword `arguments` in a fresh process and return its JSON-able result.

        Errors of ours raised there are raised here; anything else becomes a `PartyError` with its last line. With
        `bounds` the process is confined first, and a peek raises `PeekError` even if the job swallowed it.
        """
        request = pickle.dumps((function, dict(arguments), bounds))
        server = self._server(CONFINED if bounds else JUDGING)
        stdin, stdout = cast(IO[bytes], server.stdin), cast(IO[bytes], server.stdout)
        try:
            stdin.write(struct.pack("<Q", len(request)) + request)
            stdin.flush()
            answer = stdout.readline()
        except BrokenPipeError:
            answer = b""
        if not answer:
            raise PartyError("the process that runs attacks and the referee died; run the command again")
        return _result(json.loads(answer))

    def close(self) -> None:
        """Stop the servers."""
        for server in self._servers.values():
            cast(IO[bytes], server.stdin).close()
            cast(IO[bytes], server.stdout).close()
            server.wait(timeout=10)
        self._servers.clear()

    def _server(self, warm: tuple[str, ...]) -> subprocess.Popen[bytes]:
        if warm not in self._servers:
            environment = {key: value for key, value in os.environ.items() if not key.startswith("VFL_")}
            self._servers[warm] = subprocess.Popen(
                [sys.executable, "-m", "parties.isolate", *warm],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**environment, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
                start_new_session=True,  # Ctrl-C in the terminal stops the run, which then stops the server
            )
        return self._servers[warm]


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
    return answer or json.dumps({"error": "PartyError", "message": "a job died without an answer"}).encode()


def _answer(writer: int, answer: bytes) -> None:
    with os.fdopen(writer, "wb") as stream:
        stream.write(answer)


def _run(request: bytes) -> bytes:
    try:
        function, arguments, bounds = cast("tuple[str, dict[str, Any], Bounds | None]", pickle.loads(request))
        result = _confined(function, arguments, bounds) if bounds else _resolve(function)(**arguments)
        return json.dumps({"result": result}).encode()
    except VflError as error:
        facts = {"key": error.key, "where": error.where} if isinstance(error, UserError) else {}
        message = error.message if isinstance(error, UserError) else str(error)
        return json.dumps({"error": type(error).__name__, "message": message, **facts}).encode()
    except Exception:
        sys.stderr.write(traceback.format_exc())
        last = traceback.format_exc().strip().splitlines()[-1]
        return json.dumps({"error": "PartyError", "message": last}).encode()


def _confined(function: str, arguments: dict[str, Any], bounds: Bounds) -> object:
    from parties.confine import confine

    work = _resolve(function)
    os.environ.clear()
    os.environ["PYDANTIC_DISABLE_PLUGINS"] = "1"  # looking for plugins would read files outside the bounds
    os.environ["TMPDIR"] = bounds.write[0]
    os.chdir(bounds.write[0])
    watch = confine(
        [Path(path) for path in bounds.read], [Path(path) for path in bounds.write], code_places(bounds.module)
    )
    try:
        result = work(**arguments)
    except Exception as error:
        if watch.peeks:
            raise PeekError(f"tried {watch.peeks[0]}; an attack sees its view and nothing else") from None
        if isinstance(error, PermissionError) or "ermission denied" in str(error):
            raise PeekError(f"was refused by the kernel ({error}); an attack sees its view and nothing else") from None
        raise
    if watch.peeks:
        raise PeekError(f"tried {watch.peeks[0]}; an attack sees its view and nothing else")
    return result


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
    for warm in sys.argv[1:]:
        importlib.import_module(warm)
    protocol = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    with os.fdopen(0, "rb", buffering=0) as lines:
        serve(lines, protocol)
