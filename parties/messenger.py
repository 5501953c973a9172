"""A party's end of Flower: the `ClientApp` that a SuperNode starts in a fresh process for every message.

Where its SuperNode says `resident`, the party has a long-lived process of its own (`vfl deploy party`) and this one is
a messenger: it passes the message over a socket that its owner alone can open, and imports nothing that takes long.
Where it does not, the party itself lives in `Context.state` (`parties.stateless`). Both send the same bytes.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

from flwr.app import ConfigRecord, Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp

from parties.failure import failed, reason
from parties.frames import pack, receive, send, unpack
from vfl.errors import PartyGoneError, VflError, WireError

PLAY, WHO, ANSWER = "play", "who", "control"
CONTROLS = ("hello", "meet", "prepare", "checkpoint", "restore", "recall", "renew", "finish_run")
HELLO = "query.hello"
PARTY_FILE, SOCKET = "party.json", "party.sock"
ERROR_CODE = 0
PATIENCE_S = 60.0


def client_app() -> ClientApp:
    """Return the `ClientApp` of every party; which one it is, the SuperNode's own `party=FOLDER` says."""
    app = ClientApp()
    for kind in (app.train, app.evaluate, app.query):
        kind(PLAY)(_answer)
    for name in CONTROLS:
        app.query(name)(_answer)
    app.query(WHO)(_who)
    return app


def _who(message: Message, context: Context) -> Message:
    """Say which party this is; where its own process does not listen, that it is not there: then it is waited for."""
    folder = _folder(context)
    if context.node_config.get("resident") and not listens(folder / SOCKET):
        return Message(Error(ERROR_CODE, f"PartyGoneError: {folder.name} has no process yet"), reply_to=message)
    return Message(RecordDict({ANSWER: ConfigRecord({"party": folder.name})}), reply_to=message)


def _answer(message: Message, context: Context) -> Message:
    folder = _folder(context)
    try:
        if context.node_config.get("resident"):
            _await(folder / SOCKET)
            answer, told = ask(folder / SOCKET, message.metadata.message_type, message.content)
            return Message(Error(ERROR_CODE, told) if told else answer, reply_to=message)
        from parties.local import make_party
        from parties.spec_file import read
        from parties.stateless import answer

        return answer(make_party, read(folder / PARTY_FILE), message, context)
    except VflError as error:
        return Message(Error(ERROR_CODE, reason(error)), reply_to=message)
    except Exception as error:  # the SuperNode would send its text as it is
        told = failed(folder.name, message.metadata.message_type, error)
        return Message(Error(ERROR_CODE, f"PartyError: {told}"), reply_to=message)


def _await(path: Path) -> None:
    """Give the party's own process the time it takes to start."""
    deadline = time.monotonic() + PATIENCE_S
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.05)


def _folder(context: Context) -> Path:
    return Path(cast(str, context.node_config["party"]))


def listens(path: Path) -> bool:
    """Return whether a process answers at a socket; one that was killed leaves its file behind."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        return not connection.connect_ex(str(path))


def ask(path: Path, action: str, content: RecordDict) -> tuple[RecordDict, str]:
    """Return the answer of the party's own process behind a socket, or the kind and text of the error that it was.

    Raises `PartyGoneError` where there is no such process, or it ended before it answered.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        try:
            connection.connect(str(path))
            send(connection, pack(content, {"action": action}))
            answer, facts = unpack(receive(connection))
        except (OSError, WireError) as error:
            told = f"{path.parent.name} died or stayed away: {getattr(error, 'strerror', None) or error}"
            raise PartyGoneError(f"{told}; start it with vfl deploy party", path.parent.name) from None
    return answer, str(facts.get("error", ""))


def serve(path: Path, answer: Callable[[str, RecordDict], RecordDict]) -> None:
    """Answer messages at a socket that its owner alone can open, one at a time, until the process is ended.

    The socket has its name only once it takes connections, so that whoever finds it there is answered.
    """
    path.unlink(missing_ok=True)
    early = path.with_suffix(".wait")  # as long as .sock: a socket's path may not be much longer
    early.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        before = os.umask(0o177)
        try:
            listener.bind(str(early))
        finally:
            os.umask(before)
        listener.listen()
        early.rename(path)
        try:
            while True:
                connection, _ = listener.accept()
                with connection:
                    _serve_one(connection, answer)
        finally:
            path.unlink(missing_ok=True)


def _serve_one(connection: socket.socket, answer: Callable[[str, RecordDict], RecordDict]) -> None:
    try:
        content, facts = unpack(receive(connection))
        reply = pack(answer(str(facts.get("action", "")), content))
    except VflError as error:
        reply = pack(RecordDict(), {"error": reason(error)})
    try:
        send(connection, reply)
    except OSError:
        return  # the messenger is gone; the coordinator will ask again
