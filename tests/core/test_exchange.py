"""A message must be about the rows of its step, in their order, and as wide as agreed."""

from __future__ import annotations

import pytest
import torch

from vfl.errors import WireError
from vfl.exchange import body_about
from vfl.types import Envelope, Kind

ROWS = torch.tensor([4, 9, 2])


def sent(rows: torch.Tensor, width: int = 5) -> Envelope:
    return Envelope(7, Kind.EMBEDDING, "publisher", "advertiser", rows, torch.ones(len(rows), width))


def test_a_message_about_the_step_is_taken_as_it_is():
    envelope = sent(ROWS)
    assert body_about(envelope, ROWS, 5) is envelope.body


@pytest.mark.parametrize(
    "envelope",
    [sent(ROWS.flip(0)), sent(ROWS[:2]), sent(torch.tensor([4, 9, 9])), sent(ROWS[:0]), sent(ROWS, 4)],
    ids=["another order", "a row missing", "a row twice", "no rows", "too narrow"],
)
def test_any_other_is_refused(envelope):
    with pytest.raises(WireError, match=r"advertiser got from publisher at step 7 .* find out what publisher sends"):
        body_about(envelope, ROWS, 5)
