"""How LocalGrid delivers: hops of several parties at once, everything else in turn."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest
from flwr.app import Message, RecordDict

from parties.local import LocalCarrier
from vfl.compat_flwr import identify
from vfl.errors import PartyError
from vfl.grid import Roster
from vfl.types import Role

ROSTER = Roster((("publisher", Role.PUBLISHER), ("advertiser", Role.ADVERTISER)))
MEETING_S = 5


@pytest.fixture
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("parties.local.os.cpu_count", lambda: 2)


def carrier(apps: dict[str, Any]) -> LocalCarrier:
    parties = {name: SimpleNamespace(spec=SimpleNamespace(party=name), app=app) for name, app in apps.items()}
    return LocalCarrier(ROSTER, parties)  # type: ignore[arg-type]


def messages(action: str) -> list[Message]:
    identify()
    return [Message(RecordDict(), ROSTER.node(party), action) for party in ROSTER.ids()]


def test_hops_run_side_by_side_and_answers_keep_their_order(two_cores: None):
    """Each waits for the other to arrive: one after another, the meeting would break."""
    meeting = threading.Barrier(2)

    def app(message: Message, context: Any) -> Message:
        meeting.wait(timeout=MEETING_S)
        return message

    asked = messages("train.play")
    ours = carrier({"publisher": app, "advertiser": app})
    assert list(ours.carry(asked)) == asked
    ours.close()


def test_control_calls_come_one_after_another(two_cores: None):
    running: list[str] = []

    def app(message: Message, context: Any) -> Message:
        running.append(threading.current_thread().name)
        return message

    ours = carrier({"publisher": app, "advertiser": app})
    ours.carry(messages("query.prepare"))
    assert running == [threading.current_thread().name] * 2
    ours.close()


@pytest.mark.parametrize("failing", ROSTER.ids())
def test_a_failure_names_its_party_once_all_are_done(two_cores: None, failing: str):
    done: list[str] = []

    def app_of(party: str) -> Any:
        def app(message: Message, context: Any) -> Message:
            if party == failing:
                raise ValueError("no such column")
            done.append(party)
            return message

        return app

    ours = carrier({party: app_of(party) for party in ROSTER.ids()})
    with pytest.raises(PartyError, match=f"{failing} failed in train.play: ValueError: no such column"):
        ours.carry(messages("train.play"))
    ours.close()
    assert done == [party for party in ROSTER.ids() if party != failing]
