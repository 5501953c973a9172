"""A party's own long-lived process: it keeps networks and graphs, and answers what its SuperNode passes on."""

from __future__ import annotations

from pathlib import Path

from flwr.app import Message, RecordDict

from parties.local import make_party
from parties.messenger import HELLO, SOCKET, serve
from parties.spec import PartySpec
from vfl.compat_flwr import identify, new_context


def reside(spec: PartySpec, folder: Path) -> None:
    """Be the party until the process is ended. What it must remember is in its folder's checkpoints."""
    identify()
    serve(folder / SOCKET, Resident(spec).answer)


class Resident:
    """A party that begins anew with every greeting: at a run's start, and where all go on from a checkpoint."""

    def __init__(self, spec: PartySpec) -> None:
        self._spec, self._node = spec, spec.roster.node(spec.party)
        self._party, self._context = make_party(spec), new_context(self._node)

    def answer(self, action: str, content: RecordDict) -> RecordDict:
        """Answer one message."""
        if action == HELLO and not self._party.was_called(content):
            self._party, self._context = make_party(self._spec), new_context(self._node)
        return self._party.app(Message(content, self._node, action), self._context).content
