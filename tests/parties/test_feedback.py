"""Error feedback against its closed form: what arrives over many sends adds up to what was meant, to one rounding."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from harness import config, digest, train
from torch import Tensor

from parties.feedback import Feedback
from parties.outbox import Outbox, Sender
from parties.rows import LEFTOVER_STRIDE
from vfl.seeds import Seeds
from vfl.types import Envelope, Kind
from vfl.wire import Codec, body_bytes, decode

SENDS = 40
OWN = 2 * LEFTOVER_STRIDE
"""The first handle of some party's own rows."""


def outbox(codec: Codec = "int8") -> Outbox:
    return Outbox(Sender("advertiser", 2, Seeds(0)), codec, [], None, None, feedback=Feedback())


def envelope(body: Tensor, rows: list[int], kind: Kind = Kind.GRADIENT, dst: str = "publisher_1") -> Envelope:
    return Envelope(0, kind, "advertiser", dst, torch.tensor(rows), body)


def arrives(sender: Outbox, sent: Envelope, learning: bool = True) -> Tensor:
    return decode(*sender.send(sent, learning=learning)).body


def rounding(codec: Codec, greatest: float) -> float:
    """Return the most that one rounding takes: half a step of 127 a sign, or half of the last of 11 bits."""
    return greatest / 127 / 2 if codec == "int8" else greatest * 2.0**-11


@pytest.mark.parametrize("codec", ["int8", "f16"])
def test_what_a_row_has_lost_stays_below_one_rounding_however_often_it_is_sent(codec: Codec):
    """Without feedback the same body loses the same each time, and the sum is off by as many roundings as sends."""
    body = torch.randn(3, 5, generator=torch.Generator().manual_seed(1))
    alone, fed = outbox(codec), outbox(codec)
    alone.feedback = None
    sums = [sum(arrives(box, envelope(body, [4, 0, OWN])) for _ in range(SENDS)) for box in (alone, fed)]
    off = [float((total - SENDS * body).abs().max()) for total in sums]
    most = 1.1 * rounding(codec, float(body.abs().max()))
    assert off[1] <= most + 1e-4  # the sum's own rounding
    assert off[0] > 10 * off[1]


def test_it_is_what_a_sum_by_hand_for_each_row_says():
    """Rows come in another order, some for the first time, each destination and kind with sums of its own."""
    box, lost = outbox(), dict[tuple[object, ...], Tensor]()
    generator = torch.Generator().manual_seed(0)
    for turn, rows in enumerate([[0, 7], [7, 3, OWN + 9], [OWN + 9, 0], [OWN, 3], [7, 0, 3]]):
        for kind, dst in ((Kind.GRADIENT, "publisher_1"), (Kind.GRADIENT, "publisher_2"), (Kind.EMBEDDING, "other")):
            body = torch.randn(len(rows), 4, generator=generator) * (turn + 1)
            found = arrives(box, envelope(body, rows, kind, dst))
            meant = torch.stack([row + lost.get((kind, dst, at), 0) for row, at in zip(body, rows, strict=True)])
            scale = meant.abs().max()
            assert torch.allclose(found, (meant / scale * 127).round() * scale / 127, atol=1e-6)
            for at, error in zip(rows, meant - found, strict=True):
                lost[kind, dst, at] = error


@pytest.mark.parametrize(
    "changed",
    [
        {"learning": False},
        {"kind": Kind.SCORE},
        {"body": torch.tensor([[3, 1, 2]])},
        {"body": torch.tensor([[0.3, 0.1, 0.2]], dtype=torch.float64)},
    ],
)
def test_what_nothing_is_learned_from_and_what_loses_nothing_is_left_alone(changed: dict[str, object]):
    learning = changed.pop("learning", True)
    sent = replace(envelope(torch.tensor([[0.3, 0.1, 0.2]]), [1]), **changed)
    box = outbox()
    assert torch.equal(arrives(box, sent, learning=bool(learning)), arrives(box, sent, learning=bool(learning)))
    assert box.feedback is not None
    assert box.feedback.lost == {}


def test_a_body_of_another_width_begins_anew_and_the_senders_own_tensor_is_not_touched():
    box, body = outbox(), torch.randn(2, 4)
    kept = body.clone()
    for _ in range(2):
        arrives(box, envelope(body, [0, 1]))
    assert torch.equal(body, kept)
    narrow = torch.tensor([[1.0, 0.5], [0.25, 0.3]])
    assert torch.equal(arrives(box, envelope(narrow, [0, 1])), arrives(outbox(), envelope(narrow, [0, 1])))


def test_it_costs_no_byte():
    body, without = torch.randn(6, 4), outbox()
    without.feedback = None
    sizes = [body_bytes(box.send(envelope(body, list(range(6))))[1]) for box in (outbox(), without)]
    assert sizes[0] == sizes[1]


@pytest.mark.parametrize("codec", ["f16", "int8"])
def test_a_run_with_it_is_another_run_that_learns(codec: str):
    fed, without = (train(config(wire={"codec": name})) for name in (f"{codec}+feedback", codec))
    assert digest(fed) != digest(without)
    assert fed.progress.losses[-1] < fed.progress.losses[0]
    counts = [
        {key: told for key, told in fit.closing["publisher"].items() if key.startswith("bytes/")}
        for fit in (fed, without)
    ]
    assert counts[0] == counts[1]
