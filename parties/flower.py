"""A party behind a Flower SuperNode, and the coordinator behind a SuperLink: processes that do not trust each other.

A SuperNode starts a fresh process for every message. Where the party's own long-lived process runs
(`vfl deploy party`), that process is a messenger only: it passes the message over a socket that its owner alone can
open. Where it does not, the party itself lives in `Context.state` (`parties.stateless`). Both send the same bytes.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

from flwr.app import ConfigRecord, Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid

from parties.failure import failed
from parties.frames import pack, receive, send, unpack
from vfl.errors import PartyError, PartyGoneError, VflError, WireError
from vfl.grid import PLAY, Report, Roster, walk
from vfl.types import Hop, PartyId, Step
from vfl.wire import CONTROL_KEY

CONTROLS = ("hello", "meet", "prepare", "checkpoint", "restore", "recall", "finish_run")
PARTY_FILE, SOCKET = "party.json", "party.sock"
WHO = "who"
POLL_S = 0.05
ERROR_CODE = 0
_GONE = ("node", "unavailable")


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
    name = _folder(context).name
    return Message(RecordDict({CONTROL_KEY: ConfigRecord({"party": name})}), reply_to=message)


def _answer(message: Message, context: Context) -> Message:
    folder = _folder(context)
    try:
        if (folder / SOCKET).exists():
            content = ask(folder / SOCKET, message.metadata.message_type, message.content)
            return Message(content, reply_to=message)
        from parties.local import make_party
        from parties.spec_file import read
        from parties.stateless import answer

        return answer(make_party, read(folder / PARTY_FILE), message, context)
    except VflError as error:
        return Message(Error(ERROR_CODE, f"{type(error).__name__}: {error}"), reply_to=message)
    except Exception as error:  # the SuperNode would send its text as it is
        told = failed(folder.name, message.metadata.message_type, error)
        return Message(Error(ERROR_CODE, f"PartyError: {told}"), reply_to=message)


def _folder(context: Context) -> Path:
    return Path(cast(str, context.node_config["party"]))


def ask(path: Path, action: str, content: RecordDict) -> RecordDict:
    """Return the answer of the party's own process behind a socket; raises `PartyGoneError` where there is none."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        try:
            connection.connect(str(path))
        except OSError as error:
            message = f"{path.parent.name} died or stayed away: {error.strerror}; start it with vfl deploy party"
            raise PartyGoneError(message, path.parent.name) from None
        send(connection, pack(content, {"action": action}))
        answer, facts = unpack(receive(connection))
    if "error" in facts:
        raise PartyError(str(facts["error"]))
    return answer


def serve(path: Path, answer: Callable[[str, RecordDict], RecordDict]) -> None:
    """Answer messages at a socket that its owner alone can open, one at a time, until the process is ended."""
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        before = os.umask(0o177)
        try:
            listener.bind(str(path))
        finally:
            os.umask(before)
        listener.listen()
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
        reply = pack(RecordDict(), {"error": f"{type(error).__name__}: {error}"})
    try:
        send(connection, reply)
    except OSError:
        return  # the messenger is gone; the coordinator will ask again


class FlowerCarrier:
    """Carries messages over a SuperLink. It polls by itself: Flower's own grid waits three seconds between looks."""

    def __init__(self, roster: Roster, grid: Grid, timeout_s: float) -> None:
        self.path = "flower"
        self._roster, self._grid, self._timeout_s = roster, grid, timeout_s
        self._nodes: dict[PartyId, int] = {}

    def find(self) -> None:
        """Learn which SuperNode is whose; raises `PartyGoneError` for parties that do not come in time."""
        deadline, asked = time.monotonic() + self._timeout_s, set[int]()
        while set(self._nodes) < set(self._roster.ids()):
            fresh = [node for node in self._grid.get_node_ids() if node not in asked]
            asked.update(fresh)
            for node, reply in zip(
                fresh, self._send([(node, f"query.{WHO}", RecordDict()) for node in fresh]), strict=True
            ):
                party = "" if reply.has_error() else str(reply.content.config_records[CONTROL_KEY]["party"])
                if party in self._nodes or party not in self._roster.ids():
                    raise WireError(f"SuperNode {node} says it is {party!r}, who is there already or takes no part")
                self._nodes[party] = node
            absent = [party for party in self._roster.ids() if party not in self._nodes]
            if absent and time.monotonic() > deadline:
                raise PartyGoneError(f"{', '.join(absent)} stayed away for {self._timeout_s:.0f} s", absent[0])
            if absent:
                time.sleep(POLL_S)

    def carry(self, messages: Sequence[Message]) -> Sequence[Message]:
        """Deliver messages and wait for all replies; raises `PartyGoneError` for a party that sends none in time."""
        parties = [self._roster.party(message.metadata.dst_node_id) for message in messages]
        sent = [
            (self._nodes[party], message.metadata.message_type, message.content)
            for party, message in zip(parties, messages, strict=True)
        ]
        replies = self._send(sent)
        for party, reply in zip(parties, replies, strict=True):
            if reply.has_error():
                raise _explain(party, str(reply.error.reason))
        return replies

    def play(self, hops: tuple[Hop, ...], step: Step) -> dict[PartyId, Report]:
        """Play one round hop by hop, through the coordinator, which cannot read what it passes on."""
        return walk(self._roster, hops, step, self.carry)

    def kill(self, party: PartyId) -> None:
        """Refuse: a coordinator has no power over another company's process."""
        raise PartyError(f"{party} runs on a machine of its own; its owner alone can end it")

    def revive(self) -> None:
        """Look for the parties again: their owners have started those that died anew."""
        self._nodes.clear()
        self.find()

    def close(self) -> None:
        """Let the parties be: they end when their owners end them."""
        self._nodes.clear()

    def _send(self, sent: Sequence[tuple[int, str, RecordDict]]) -> list[Message]:
        messages = [Message(content, node, kind, ttl=self._timeout_s) for node, kind, content in sent]
        ids = list(self._grid.push_messages(messages)) if messages else []
        found: dict[str, Message] = {}
        deadline = time.monotonic() + self._timeout_s
        while len(found) < len(ids):
            for reply in self._grid.pull_messages([each for each in ids if each not in found]):
                found[reply.metadata.reply_to_message_id] = reply
            if len(found) < len(ids) and time.monotonic() > deadline:
                raise PartyGoneError(f"a party stayed away: no answer within {self._timeout_s:.0f} s")
            if len(found) < len(ids):
                time.sleep(POLL_S)
        return [found[each] for each in ids]


def _explain(party: PartyId, reason: str) -> VflError:
    """Return the error that a party's own words, or Flower's about its node, stand for."""
    kind, _, text = reason.partition(": ")
    if kind == "WireError":
        return WireError(text)
    if kind == "PartyGoneError" or all(word in reason.lower() for word in _GONE):
        return PartyGoneError(text if kind == "PartyGoneError" else f"{party} died or stayed away: {reason}", party)
    return PartyError(f"{party} failed: {reason}")
