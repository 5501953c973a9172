"""No run releases a row oftener than its ledger counts: transcripts of every method are counted, or it is refused."""

from __future__ import annotations

import pytest
from harness import config, train

from experiments.account import releases
from experiments.checks import check_members
from experiments.schema import Config
from tests.contracts.members import METHODS, cases, label
from vfl.errors import VflError
from vfl.store import envelopes
from vfl.types import Kind, Role

NOISE = [{"name": "clipped_gaussian", "on": on} for on in ("embedding", "gradient")]
SENT = [(Role.PUBLISHER, Kind.EMBEDDING, "sent"), (Role.ADVERTISER, Kind.GRADIENT, "received")]


def refusal(asked: Config) -> str:
    try:
        check_members(asked)
    except VflError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("method", cases(METHODS), ids=map(label, cases(METHODS)))
def test_no_row_is_sent_oftener_than_it_is_counted(method, tmp_path):
    asked = config(method=method, defense=NOISE, align={"overlap": 0.7}, holdout={"test": 0.2, "valid": 0.0})
    if reason := refusal(asked):
        assert "a run that its epsilon counts" in reason or "a method that heeds it" in reason
        return
    train(asked, tmp_path)
    seen = [*envelopes(tmp_path / "parties" / "publisher" / "transcript")]
    for role, kind, way in SENT:
        times: dict[int, int] = {}
        for found, envelope in seen:
            for row in envelope.rows.tolist() if (found, envelope.kind) == (way, kind) else ():
                times[row] = times.get(row, 0) + 1
        assert times
        assert max(times.values()) <= releases(asked, role)
