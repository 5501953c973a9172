"""What leaves a party that fails: where and of what kind, and nothing that may be data."""

from __future__ import annotations

import re

import pytest
import torch
from harness import config, train

from parties.failure import failed, reason, scrub
from vfl.errors import DataError, PartyError

SECRETS = ["alice@example.org", "1234567", "0.734", "'Smith'", '"Zürich"', "user-77"]


@pytest.mark.parametrize("secret", SECRETS)
def test_what_may_be_data_is_struck_out(secret):
    told = str(failed("publisher", "forward", ValueError(f"could not convert string to float: {secret} in column")))
    assert secret.strip("'\"") not in told
    assert told.startswith("publisher failed in forward: ValueError: could not convert string to float: …")
    assert "\n" not in told


def test_a_tensor_and_a_frame_are_struck_out():
    text = scrub(f"bad value in {torch.tensor([0.25, 0.5])}\nrow 3: age=47, city='Oslo'")
    assert not any(part in text for part in ("0.25", "47", "Oslo"))


@pytest.mark.parametrize("told", [repr("O'Brien"), repr("a'b\"Smith"), "(CSV parse error: alice,Smith)"])
def test_a_refused_file_is_told_to_others_without_its_cells(told, capsys):
    text = reason(DataError(f"got {told} in row 3, allowed numbers; mend it", key="age", where="a.csv"))
    assert re.sub(r"[…()]", "", text).startswith("DataError: a.csv: age: got  in row  allowed numbers; mend it")
    assert told in capsys.readouterr().err


def test_the_person_who_started_the_run_is_told_where_it_broke(monkeypatch):
    from vfl.methods.vanilla import VanillaPublisher

    def broken(self, step, mail):
        raise RuntimeError("cannot use the age 47 of 'Smith'")

    monkeypatch.setattr(VanillaPublisher, "forward", broken)
    with pytest.raises(
        PartyError, match=r"publisher failed in play: RuntimeError: cannot use the age … of … \(at test_"
    ) as caught:
        train(config())
    assert "Smith" not in str(caught.value)
    assert caught.value.__cause__ is None
