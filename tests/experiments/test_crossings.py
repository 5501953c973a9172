"""What crossed the wire, as a row tells it, on a run whose messages are known."""

from __future__ import annotations

from experiments.config import parse
from experiments.crossings import crossings
from experiments.plan import open_world

SENT = {"publisher": {"bytes/embedding": 700, "bytes/psi": 30}, "advertiser": {"bytes/gradient": 500}}


def lines(**asked):
    config = parse({"backend": "local", "data": "breast_cancer", **asked})
    return {(line["party"], line["kind"]): line for line in crossings(config, open_world(config), SENT)}


def test_each_kind_that_was_sent_has_a_line():
    found = lines()
    assert set(found) == {("publisher", "embedding"), ("publisher", "psi"), ("advertiser", "gradient")}
    sent = found["publisher", "embedding"]
    assert (sent["to"], sent["bytes"], sent["sealed"]) == (["advertiser"], 700, False)
    assert found["advertiser", "gradient"]["to"] == ["publisher"]


def test_a_defense_is_named_where_it_acts():
    found = lines(
        defense=[{"name": "marvell"}, {"name": "randomized_response"}, {"name": "dropout"}], wire={"channel": "on"}
    )
    gradient, embedding = found["advertiser", "gradient"], found["publisher", "embedding"]
    assert (gradient["changed_by"], gradient["behind"]) == (["marvell"], ["randomized_response"])
    assert (embedding["changed_by"], embedding["behind"]) == ([], ["dropout"])
    assert (found["publisher", "psi"]["changed_by"], found["publisher", "psi"]["behind"]) == ([], [])
    assert gradient["sealed"]
