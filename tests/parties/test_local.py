"""How LocalGrid delivers: hops of several parties at once, everything else in turn."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest
from flwr.app import Message, RecordDict
from harness import config

from experiments.plan import open_world, party_specs
from parties.local import LocalCarrier, make_party
from vfl.compat_flwr import identify, new_context
from vfl.errors import PartyError, WireError
from vfl.grid import Roster
from vfl.types import Pool, Role, Step
from vfl.wire import merge, step_record

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


@pytest.mark.parametrize(("party", "hop"), [(0, "own"), (1, "forward"), (0, "nothing")])
def test_a_party_runs_no_hop_but_those_of_its_role(party: int, hop: str):
    """A coordinator that asks a publisher for the advertiser's part, or the other way round, is refused."""
    asked = config()
    specs = party_specs(asked, open_world(asked), None)
    member = make_party(specs[party])
    step = Step(0, "train", Pool.TRAIN, size=8)
    identify()
    message = Message(merge(step_record(step, (hop,)), ()), specs[0].roster.node(specs[party].party), "train.play")
    with pytest.raises(WireError, match=f"asked for hop '{hop}'"):
        member.handle(message, new_context(1))


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
