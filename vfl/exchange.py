"""What handlers are given and what they hand back, in methods and aligners alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from vfl.errors import WireError
from vfl.types import Envelope, PartyId

Mail = Mapping[PartyId, Envelope]
"""What a handler is given: the envelope of each sender, for the hop at hand."""


def body_about(envelope: Envelope, rows: Tensor) -> Tensor:
    """Return the body of a message that must be about just these `(rows,)` handles, in this order.

    Raises `WireError` where it is not: a method takes bodies by place while guards look rows up by handle, so whoever
    names rows that its body is not used for would be judged by those, and one out of step would teach the wrong rows.
    """
    if torch.equal(envelope.rows, rows):
        return envelope.body
    got = "the rows in another order" if set(envelope.rows.tolist()) == set(rows.tolist()) else "other rows"
    raise WireError(
        f"{envelope.dst} got from {envelope.src} at step {envelope.step} the {envelope.kind.value} of {got}, allowed "
        f"the {len(rows)} rows of the step in its order; find out what {envelope.src} sends"
    )


def bodies_about(mail: Mail, parties: Iterable[PartyId], rows: Tensor) -> dict[PartyId, Tensor]:
    """Return the body of each of these parties, held to the `(rows,)` handles as `body_about` does."""
    return {party: body_about(mail[party], rows) for party in parties}


def bodies_begun(mail: Mail, parties: Iterable[PartyId], rows: Tensor) -> dict[PartyId, Tensor]:
    """Return the whole body of each of these parties, whose first rows must be about the `(rows,)` handles.

    What follows them is about rows that its sender alone holds, so nobody else knows which they must be.
    """
    for party in parties:
        body_about(replace(mail[party], rows=mail[party].rows[: len(rows)]), rows)
    return {party: mail[party].body for party in parties}


ByClass = Callable[[PartyId], Tensor]
"""What a body to a party would be if every row were of one class, `(classes, rows, dim)`: for defenses, never sent."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """What a handler sends: one `(rows, dim)` body for each destination, and its report.

    `rows` are the handles that all bodies are about, or those of each destination's body by itself.

    `report` holds figures for the coordinator (a loss, a count): they are seen by it and by whoever started the run.
    `by_class` is for the sender's own defenses and good until the handler's side is called again.
    """

    rows: Tensor | Mapping[PartyId, Tensor] | None = None
    bodies: Mapping[PartyId, Tensor] = field(default_factory=dict[PartyId, Tensor])
    report: Mapping[str, float] = field(default_factory=dict[str, float])
    by_class: ByClass | None = None


class OneByOne(Mapping[PartyId, Tensor]):
    """Bodies made when they are asked for, each time anew: of large ones no two need be there at once."""

    def __init__(self, parties: Iterable[PartyId], make: Callable[[PartyId], Tensor]) -> None:
        self._parties, self._make = tuple(parties), make

    def __getitem__(self, party: PartyId) -> Tensor:
        """Make the body for a party."""
        if party not in self._parties:
            raise KeyError(party)
        return self._make(party)

    def __iter__(self) -> Iterator[PartyId]:
        """Name the parties in the order in which they are sent to."""
        return iter(self._parties)

    def __len__(self) -> int:
        """How many parties are sent a body."""
        return len(self._parties)


NOTHING = Outgoing()
