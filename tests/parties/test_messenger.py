"""Between a SuperNode's short process and the party's long one: frames without pickle, and a private socket."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from hypothesis import given, settings
from hypothesis import strategies as st

from parties import controls, messenger, spec_file
from parties.frames import pack, unpack
from vfl.compat_flwr import identify, new_context
from vfl.errors import DataError, PartyError, PartyGoneError, WireError
from vfl.grid import PLAY


def content() -> RecordDict:
    array = Array(dtype="<f4", shape=(2, 1), stype="vfl.raw.v1", data=b"\0\1\2\3\4\5\6\7")
    config = ConfigRecord({"step": "1|train", "hello": b"\0key", "list": [b"a", b"b"], "n": 3, "x": 0.5})
    return RecordDict(
        {
            "embedding/a/b/1": ArrayRecord({"rows": array, "body": array}),
            "c": config,
            "report": MetricRecord({"loss": 0.1}),
        }
    )


def test_content_comes_back_as_it_was():
    found, facts = unpack(pack(content(), {"action": "train.play"}))
    assert found == content()
    assert facts == {"action": "train.play"}


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_other_bytes_are_refused_with_a_reason(data):
    whole = pack(content())
    at, value = data.draw(st.integers(0, len(whole) - 1)), data.draw(st.integers(0, 255))
    changed = data.draw(
        st.sampled_from([whole[:at], whole + b"\0", whole[:at] + bytes([value]) + whole[at + 1 :], whole[at:]])
    )
    try:
        unpack(changed)
    except WireError as error:
        assert str(error)  # noqa: PT017 - a changed byte within a name or a value is well-formed


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_noise_is_refused(noise):
    with pytest.raises(WireError, match="malformed frame"):
        unpack(noise)


def test_the_messenger_knows_every_action_of_a_party():
    assert messenger.CONTROLS == controls.CONTROLS
    assert messenger.PLAY == PLAY


def test_the_messenger_imports_nothing_that_takes_long():
    code = "import sys, parties.messenger; print([name for name in ('torch', 'pandas', 'ray') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_messages_go_over_a_socket_of_the_owner_alone(tmp_path):
    path = tmp_path / "party.sock"

    def answer(action: str, given: RecordDict) -> RecordDict:
        if action == "train.broken":
            raise PartyError("publisher failed in play")
        return given

    threading.Thread(target=messenger.serve, args=(path, answer), daemon=True).start()
    while not path.exists():
        time.sleep(0.01)
    assert path.stat().st_mode & 0o077 == 0
    assert messenger.ask(path, "train.play", content()) == (content(), "")
    assert messenger.ask(path, "train.broken", content()) == (RecordDict(), "PartyError: publisher failed in play")
    assert messenger.ask(path, "train.play", content()) == (content(), "")


IN_TWO_ROWS = DataError("got the id 'u17' in rows 3 and 9, allowed once; remove one of them", key="id", where="a.csv")


def refusing(*given: object) -> RecordDict:
    raise IN_TWO_ROWS


@pytest.mark.parametrize("resident", [True, False], ids=["resident", "stock"])
def test_a_refused_data_file_is_quoted_in_the_partys_own_log_alone(tmp_path, monkeypatch, capfd, resident):
    """The coordinator's log holds no id, however the party lives."""
    monkeypatch.setattr(spec_file, "read", refusing)
    folder = tmp_path / "publisher"
    folder.mkdir()
    if resident:
        threading.Thread(target=messenger.serve, args=(folder / "party.sock", refusing), daemon=True).start()
    identify()
    context = new_context(1)
    context.node_config = {"party": str(folder), "resident": resident}
    answer = messenger.client_app()(Message(content(), 1, "train.play"), context)
    told = str(answer.error.reason)
    assert told.startswith("DataError: a.csv: id: got the id … in rows … and … allowed once")
    assert "u17" not in told
    assert f"vfl: {IN_TWO_ROWS}" in capfd.readouterr().err


def test_a_party_whose_process_is_gone_is_named(tmp_path):
    folder = tmp_path / "publisher"
    folder.mkdir()
    with pytest.raises(PartyGoneError, match="publisher died or stayed away"):
        messenger.ask(folder / "party.sock", "train.play", content())
