"""The coordinator's end of a deployment, over a SuperLink that is played: who is there, and who is waited for."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from flwr.app import ConfigRecord, Error, Message, RecordDict

from parties import flower
from parties.flower import FlowerCarrier
from parties.messenger import ANSWER
from vfl.compat_flwr import identify, set_message_id
from vfl.errors import PartyGoneError, WireError
from vfl.grid import PartyGrid, Roster
from vfl.types import Role

ROSTER = Roster((("one", Role.PUBLISHER), ("two", Role.PUBLISHER), ("advertiser", Role.ADVERTISER)))


class Link:
    """A SuperLink with these SuperNodes: by number, whose each says it is; `None` answers with an error."""

    def __init__(self, nodes: dict[int, str | None]) -> None:
        identify()
        self.nodes, self.asked, self._replies = nodes, list[int](), dict[str, Message]()

    def get_node_ids(self) -> Iterable[int]:
        return list(self.nodes)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        ids = []
        for message in messages:
            node = message.metadata.dst_node_id
            self.asked.append(node)
            ids.append(f"message-{len(self.asked)}")
            set_message_id(message, ids[-1])
            content = RecordDict({ANSWER: ConfigRecord({"party": self.nodes[node] or ""})})
            known = self.nodes[node] is not None
            reply = Message(content if known else Error(5, "no process yet"), reply_to=message)
            self._replies[ids[-1]] = reply
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        return [self._replies.pop(each) for each in message_ids if each in self._replies]


@pytest.fixture(autouse=True)
def quick(monkeypatch) -> None:
    monkeypatch.setattr(flower, "AGAIN_S", 0.001)


def carrier(nodes: dict[int, str | None], timeout_s: float = 0.05) -> tuple[FlowerCarrier, Link]:
    link = Link(nodes)
    return FlowerCarrier(ROSTER, link, timeout_s), link


def test_every_party_is_found_by_what_its_supernode_says():
    found, link = carrier({71: "two", 72: "advertiser", 73: "one"})
    found.find()
    assert sorted(link.asked) == [71, 72, 73]


def test_a_supernode_that_answers_with_an_error_is_asked_again():
    found, link = carrier({71: "two", 72: "advertiser", 73: None}, timeout_s=30)
    pull = link.pull_messages

    def start_it(ids: Iterable[str]) -> Iterable[Message]:
        if link.asked.count(73) == 2:
            link.nodes[73] = "one"
        return pull(ids)

    link.pull_messages = start_it
    found.find()
    assert link.asked.count(73) >= 3


@pytest.mark.parametrize("other", ["two", "stranger"])
def test_a_supernode_that_says_it_is_another_is_refused(other):
    found, _ = carrier({71: "two", 72: "advertiser", 73: other})
    with pytest.raises(WireError, match=f"SuperNode 73 says it is '{other}', who is there already or takes no part"):
        found.find()


def test_who_does_not_come_is_named_and_once_excused_is_waited_for_no_more():
    found, _ = carrier({71: "two", 72: "advertiser"})
    grid = PartyGrid(ROSTER, found, "relay", owns=False)
    with pytest.raises(PartyGoneError, match="one stayed away for 0 s") as caught:
        grid.revive()
    assert caught.value.party == "one"
    grid.excuse("one")
    grid.revive()
