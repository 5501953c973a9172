"""The coordinator behind a Flower SuperLink, with a SuperNode a party: processes that do not trust each other."""

from __future__ import annotations

import time
from collections.abc import Sequence

from flwr.app import Error, Message, RecordDict
from flwr.serverapp import Grid

from parties.messenger import ANSWER, WHO
from vfl.errors import PartyError, PartyGoneError, VflError, WireError
from vfl.grid import Report, Roster, walk
from vfl.types import Hop, PartyId, Step

POLL_S = 0.05
AGAIN_S = 1.0
"""Between two looks for parties that are not there: every look starts a process at their SuperNodes."""
_GONE_CODES = frozenset({3, 4, 5, 8})
"""Flower's own errors for a message or reply that expired, a node without heartbeat, and a process that crashed."""


class FlowerCarrier:
    """Carries messages over a SuperLink. It polls by itself: Flower's own grid waits three seconds between looks."""

    def __init__(self, roster: Roster, grid: Grid, timeout_s: float) -> None:
        self.path = "flower"
        self._roster, self._grid, self._timeout_s = roster, grid, timeout_s
        self._nodes: dict[PartyId, int] = {}
        self._expected = dict.fromkeys(roster.ids())

    def find(self) -> None:
        """Learn which SuperNode is whose; raises `PartyGoneError` for parties that do not come in time."""
        deadline, asked = time.monotonic() + self._timeout_s, set[int]()
        while not self._expected.keys() <= self._nodes.keys():
            fresh = [node for node in self._grid.get_node_ids() if node not in asked]
            asked.update(fresh)
            for node, reply in zip(
                fresh, self._send([(node, f"query.{WHO}", RecordDict()) for node in fresh]), strict=True
            ):
                if reply.has_error():
                    asked.discard(node)  # it died since; started anew it has the same number
                    continue
                party = str(reply.content.config_records[ANSWER]["party"])
                if party in self._nodes or party not in self._roster.ids():
                    raise WireError(f"SuperNode {node} says it is {party!r}, who is there already or takes no part")
                self._nodes[party] = node
            absent = [party for party in self._expected if party not in self._nodes]
            if absent and time.monotonic() > deadline:
                raise PartyGoneError(f"{', '.join(absent)} stayed away for {self._timeout_s:.0f} s", absent[0])
            if absent:
                time.sleep(AGAIN_S)

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
                raise _explain(party, reply.error)
        return replies

    def play(self, hops: tuple[Hop, ...], step: Step) -> dict[PartyId, Report]:
        """Play one round hop by hop, through the coordinator, which cannot read what it passes on."""
        return walk(self._roster, hops, step, self.carry)

    def excuse(self, party: PartyId) -> None:
        """Wait for a party no more: the run goes on without it."""
        self._expected.pop(party, None)

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
                silent = [self._name(node) for (node, _, _), each in zip(sent, ids, strict=True) if each not in found]
                raise PartyGoneError(
                    f"{', '.join(silent)} stayed away: no answer within {self._timeout_s:.0f} s", silent[0]
                )
            if len(found) < len(ids):
                time.sleep(POLL_S)
        return [found[each] for each in ids]

    def _name(self, node: int) -> PartyId:
        return next((party for party, its_node in self._nodes.items() if its_node == node), f"SuperNode {node}")


def _explain(party: PartyId, error: Error) -> VflError:
    """Return the error that a party's own words, or Flower's about its node, stand for."""
    kind, _, text = str(error.reason).partition(": ")
    if kind == "WireError":
        return WireError(text)
    if kind == "PartyGoneError":
        return PartyGoneError(text, party)
    if error.code in _GONE_CODES:
        return PartyGoneError(f"{party} died or stayed away: {error.reason}", party)
    return PartyError(text if kind == "PartyError" else f"{party} failed: {error.reason}")
