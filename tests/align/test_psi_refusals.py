"""A PSI message that was tampered with, replayed or reflected is refused, and the honest one it came from is not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from vfl.align.ecdh_psi import EcdhPsi
from vfl.crypto.hash_to_curve import P
from vfl.errors import WireError
from vfl.seeds import Seeds
from vfl.types import Envelope, Kind, Pool, Step

STEP = Step(0, "align", Pool.TRAIN)
OURS, THEIRS = ["a", "b", "c", "d"], ["c", "d", "e"]


def mail(src: str, dst: str, body: Tensor, kind: Kind = Kind.PSI) -> dict[str, Envelope]:
    return {src: Envelope(0, kind, src, dst, torch.empty(0, dtype=torch.int64), body)}


@dataclass
class Exchange:
    """Both sides of one alignment, the advertiser holding `OURS` and the publisher `THEIRS`, one message at a time."""

    seed: int = 0
    max_asked: int = 0

    def __post_init__(self) -> None:
        aligner = EcdhPsi(max_asked=self.max_asked)
        pools = torch.tensor([0, 0, 1, 2])
        self.advertiser = aligner.advertiser(OURS, pools, Seeds(self.seed).scope("advertiser"), ("publisher",))
        self.publisher = aligner.publisher(THEIRS, Seeds(self.seed).scope("publisher"))
        self.asked = self.advertiser.ask(STEP, {}).bodies["publisher"]
        self.publisher.mask(STEP, {})

    def answer(self, asked: Tensor) -> Tensor:
        return self.publisher.answer(STEP, mail("advertiser", "publisher", asked)).bodies["advertiser"]

    def match(self, answered: Tensor) -> Tensor:
        sent = self.advertiser.match(STEP, mail("publisher", "advertiser", answered)).bodies
        return sent["publisher"]

    def settle(self, announced: Tensor) -> None:
        self.publisher.settle(STEP, mail("advertiser", "publisher", announced, Kind.CONTROL))


def own(answered: Tensor) -> Tensor:
    """The publisher's own list in its answer, the canary first: what follows the tag and a digest of each id asked."""
    return answered[1 + len(OURS) :]


def tag(answered: Tensor) -> Tensor:
    return answered[:1]


def digests(answered: Tensor) -> Tensor:
    return answered[1 : 1 + len(OURS)]


def changed(body: Tensor, row: int, value: int) -> Tensor:
    """The body with one row replaced by a 256-bit number, big-endian."""
    tampered = body.clone()
    tampered[row] = torch.frombuffer(bytearray(value.to_bytes(32, "big")), dtype=torch.uint8)
    return tampered


def test_the_honest_exchange_goes_through() -> None:
    exchange = Exchange()
    exchange.settle(exchange.match(exchange.answer(exchange.asked)))
    assert exchange.publisher.alignment is not None
    assert {THEIRS[row] for row in exchange.publisher.alignment.order.tolist()} == {"c", "d"}


def test_a_publisher_bounds_how_many_ids_it_is_asked_for() -> None:
    exchange = Exchange(max_asked=len(OURS))
    exchange.settle(exchange.match(exchange.answer(exchange.asked)))
    bounded = Exchange(max_asked=len(OURS) - 1)
    with pytest.raises(WireError, match=r"asks for 4 ids, allowed 3 at most \(align.max_asked\)"):
        bounded.answer(bounded.asked)


QUESTIONS: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "no entry": (lambda asked: asked[:0], "1 or more"),
    "wrong width": (lambda asked: asked[:, :31], "uint8 of"),
    "wrong type": (lambda asked: asked.long(), "uint8 of"),
    "an entry twice": (lambda asked: torch.cat([asked, asked[:1]]), "twice"),
    "off the curve": (lambda asked: changed(asked, 2, 1), "not on P-256"),
    "not reduced": (lambda asked: changed(asked, 0, P + 5), "not on P-256"),
}
ANSWERS: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], str]] = {
    "no own list": (lambda answered, asked: answered[: 1 + len(OURS)], "6 or more"),
    "wrong width": (lambda answered, asked: answered[:, :16], "uint8 of"),
    "wrong type": (lambda answered, asked: answered.float(), "uint8 of"),
    "no tag": (lambda answered, asked: answered[1:], "does not belong|not on P-256"),
    "the list alone": (lambda answered, asked: torch.cat([answered[:2], own(answered)]), "6 or more|does not belong"),
    "a row left out": (lambda answered, asked: answered[:-1], "does not belong"),
    "a row more": (lambda answered, asked: torch.cat([answered, Exchange(seed=7).asked[:1]]), "does not belong"),
    "a digest twice": (lambda answered, asked: torch.cat([answered[:2], answered[1:2], answered[3:]]), "not belong"),
    "digests swapped": (lambda answered, asked: answered[[0, 2, 1, *range(3, len(answered))]], "does not belong"),
    "points swapped": (lambda answered, asked: answered[[*range(len(answered) - 2), -1, -2]], "does not belong"),
    "a point twice": (lambda answered, asked: torch.cat([answered, answered[-1:]]), "twice"),
    "off the curve": (lambda answered, asked: changed(answered, len(answered) - 1, 1), "not on P-256"),
    "an echo of the question": (lambda answered, asked: torch.cat([answered[: 1 + len(OURS)], asked]), "echoes"),
    "an echo among its own": (lambda answered, asked: torch.cat([answered, asked[:1]]), "echoes"),
    "the question as digests": (
        lambda answered, asked: torch.cat([tag(answered), asked[1:], own(answered)]),
        "does not belong",
    ),
}
ANNOUNCEMENTS: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "a row more": (lambda told: torch.cat([torch.tensor([[2, 0]]), told]), "does not belong"),
    "a row left out": (lambda told: told[1:], "does not belong"),
    "rows swapped": (lambda told: told[[1, 0, 2, 3]], "does not belong"),
    "another pool": (lambda told: told + torch.tensor([[0, 1], [0, 0], [0, 0], [0, 0]]), "does not belong"),
    "no tag": (lambda told: told[:-2], "does not belong"),
    "nothing": (lambda told: told[:0], "int64"),
    "wrong type": (lambda told: told.to(torch.uint8), "int64"),
    "wrong width": (lambda told: told[:, :1], "int64"),
}


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_tampered_question_is_refused(name: str) -> None:
    tamper, message = QUESTIONS[name]
    exchange = Exchange()
    with pytest.raises(WireError, match=message):
        exchange.answer(tamper(exchange.asked))


@pytest.mark.parametrize("name", ANSWERS)
def test_a_tampered_answer_is_refused(name: str) -> None:
    tamper, message = ANSWERS[name]
    exchange = Exchange()
    with pytest.raises(WireError, match=message):
        exchange.match(tamper(exchange.answer(exchange.asked), exchange.asked))
    assert exchange.advertiser.alignment is None


@pytest.mark.parametrize("name", ANNOUNCEMENTS)
def test_a_tampered_announcement_is_refused(name: str) -> None:
    tamper, message = ANNOUNCEMENTS[name]
    exchange = Exchange()
    told = exchange.match(exchange.answer(exchange.asked))
    with pytest.raises(WireError, match=message):
        exchange.settle(tamper(told))
    assert exchange.publisher.alignment is None


def test_any_bit_changed_on_the_way_is_refused() -> None:
    """One bit of each row in turn, of the question, the answer and the announcement; the honest ones go through."""
    honest = Exchange()
    bodies = [honest.asked, honest.answer(honest.asked)]
    bodies.append(honest.match(bodies[1]))
    for message, body in enumerate(bodies):
        for row in range(len(body)):
            exchange, tampered = Exchange(), body.clone()
            tampered[row, -1] ^= 1
            with pytest.raises(WireError):
                deliver(exchange, message, tampered)


def deliver(exchange: Exchange, message: int, tampered: Tensor) -> None:
    """Play the exchange with its question (0), answer (1) or announcement (2) replaced."""
    answered = exchange.answer(tampered if message == 0 else exchange.asked)
    told = exchange.match(tampered if message == 1 else answered)
    exchange.settle(tampered if message == 2 else told)


def test_messages_of_an_earlier_exchange_are_refused() -> None:
    """The tag of an old answer is under another key, and so is the answer to an old question."""
    old, new = Exchange(seed=1), Exchange(seed=2)
    with pytest.raises(WireError, match="does not belong"):
        new.match(old.answer(old.asked))
    third = Exchange(seed=3)
    with pytest.raises(WireError, match="does not belong"):
        third.match(third.answer(old.asked))


def test_an_answer_made_with_two_secrets_is_refused() -> None:
    one, two = Exchange(seed=1), Exchange(seed=1)
    two.publisher = EcdhPsi().publisher(THEIRS, Seeds(99))
    two.publisher.mask(STEP, {})
    mixed = torch.cat([one.answer(one.asked)[: 1 + len(OURS)], own(two.answer(two.asked))])
    with pytest.raises(WireError, match="does not belong"):
        one.match(mixed)


def test_the_publishers_own_points_reflected_to_it_are_refused() -> None:
    exchange = Exchange()
    points = own(Exchange().answer(exchange.asked))
    with pytest.raises(WireError, match="echoes"):
        exchange.answer(points)


def test_every_message_is_taken_once() -> None:
    exchange = Exchange()
    answered = exchange.answer(exchange.asked)
    with pytest.raises(WireError, match="second time"):
        exchange.answer(exchange.asked)
    told = exchange.match(answered)
    with pytest.raises(WireError, match="second time"):
        exchange.match(answered)
    exchange.settle(told)
    with pytest.raises(WireError, match="second time"):
        exchange.settle(told)


def test_an_absent_publisher_is_named() -> None:
    exchange = Exchange()
    with pytest.raises(WireError, match="publisher is absent"):
        exchange.advertiser.match(STEP, {})


@pytest.mark.parametrize(("options", "message"), [({"workers": 0}, "1 or more"), ({"max_asked": -1}, "0 or more")])
def test_options_out_of_range_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EcdhPsi(**options)
