"""A party's own long-lived process: it keeps networks and graphs, and answers what its SuperNode passes on."""

from __future__ import annotations

from pathlib import Path

from flwr.app import Message, RecordDict

from parties.local import make_party
from parties.messenger import SOCKET, serve
from parties.spec import PartySpec
from vfl.compat_flwr import identify, new_context


def reside(spec: PartySpec, folder: Path) -> None:
    """Be the party until the process is ended. What it must remember is in its folder's checkpoints."""
    identify()
    node = spec.roster.node(spec.party)
    party, context = make_party(spec), new_context(node)

    def answer(action: str, content: RecordDict) -> RecordDict:
        return party.app(Message(content, node, action), context).content

    serve(folder / SOCKET, answer)
