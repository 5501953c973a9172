"""Publishers that a run goes on without, and what stands in for their embeddings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from vfl.errors import PartyGoneError
from vfl.exchange import Mail
from vfl.types import Envelope, Kind, PartyId, Step


@dataclass(slots=True)
class Absence:
    """Who is `absent` from one party's point of view; `heard` is the last embedding of each publisher in training.

    After a checkpoint `heard` holds mean rows, which is all that a stand-in needs.
    """

    party: PartyId
    absent: frozenset[PartyId] = frozenset()
    heard: dict[PartyId, Tensor] = field(default_factory=dict[PartyId, Tensor])

    def hear(self, step: Step, received: Iterable[Envelope]) -> None:
        """Note the embeddings of a training round; those of alignment and evaluation stand for nobody."""
        if step.phase not in ("align", "valid", "test"):
            self.heard.update({each.src: each.body for each in received if each.kind == Kind.EMBEDDING})

    def filled(self, step: Step, found: Mail, order: Sequence[PartyId], rows: Callable[[Step], Tensor]) -> Mail:
        """Return a hop's embeddings, in the `order` of the run's parties, with those of whoever is absent put in.

        `rows` gives the handles that a step is about, for these envelopes to be of. Raises `PartyGoneError` for a
        publisher that sent nothing before it left.
        """
        return {
            party: found[party] if party in found else self._stand_in(step, party, rows(step))
            for party in order
            if party in found or party in self.absent
        }

    def means(self) -> dict[PartyId, Tensor]:
        """Return the mean row of what each publisher sent last, `(width,)`: what a checkpoint holds."""
        return {party: _mean(body) for party, body in self.heard.items()}

    def _stand_in(self, step: Step, party: PartyId, rows: Tensor) -> Envelope:
        """Return what stands for an absent publisher's embedding: the mean of the last that it sent in training."""
        if party not in self.heard:
            raise PartyGoneError(f"{party} stayed away, and nothing that it sent can stand in for it", party)
        body = _mean(self.heard[party]).expand(len(rows), -1).clone()
        return Envelope(step.index, Kind.EMBEDDING, party, self.party, rows, body)


def _mean(body: Tensor) -> Tensor:
    """Return the mean row of a body; of a mean row, the row itself."""
    return body.detach().mean(dim=0) if body.ndim == 2 else body
