"""Tables that no single message can match are refused before an id is read: sizes by hand, for 320 rows a side."""

from __future__ import annotations

import pandas as pd
import pytest
from harness import config

from experiments.plan import open_world
from parties.entry import Limits
from vfl.errors import ConfigError

ROWS = 320


@pytest.fixture
def data(tmp_path):
    ids = [f"user-{place}" for place in range(ROWS)]
    pd.DataFrame({"id": ids, "spent": range(ROWS)}).to_csv(tmp_path / "a.csv", index=False)
    pd.DataFrame({"id": ids, "visits": range(ROWS), "y": [0, 1] * (ROWS // 2)}).to_csv(tmp_path / "b.csv", index=False)
    files = {"publisher": str(tmp_path / "a.csv"), "advertiser": str(tmp_path / "b.csv")}
    return {"name": "csv", **files, "key": "id", "label": "y"}


@pytest.mark.parametrize(
    ("aligner", "needed"),
    [
        pytest.param("ecdh_psi", 20_544, id="32 bytes for each id asked and listed, a tag and a canary"),
        pytest.param("plain", 5_120, id="a place and a pool of 8 bytes each for a shared row"),
    ],
)
def test_tables_too_long_for_one_message_are_refused(data, monkeypatch, aligner, needed):
    asked = config(data=data, align={"name": aligner})
    monkeypatch.setattr("experiments.plan.Limits", lambda: Limits(message_bytes=needed))
    open_world(asked)
    monkeypatch.setattr("experiments.plan.Limits", lambda: Limits(message_bytes=needed - 1))
    with pytest.raises(
        ConfigError, match=f"align: got {aligner} over 320 rows of the advertiser and 320 of a publisher"
    ):
        open_world(asked)


def test_a_limit_on_private_answers_is_none_on_ids_in_the_clear(data, monkeypatch):
    monkeypatch.setattr("experiments.plan.Limits", lambda: Limits(message_bytes=20_543))
    open_world(config(data=data, align={"name": "plain"}))
