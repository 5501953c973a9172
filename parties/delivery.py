"""Which envelopes of a message a hop is given, and which are refused: of strangers, of another type, absent, misfit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from parties.spec import PartySpec
from vfl.errors import WireError
from vfl.exchange import Mail
from vfl.types import Envelope, Hop, Kind, PartyId

LEARNED = (Kind.EMBEDDING, Kind.GRADIENT)
"""Kinds that are networks' inputs: floating point, a row a row of the step, as wide as the cut layer."""


@dataclass(slots=True)
class Delivery:
    """One party's mail, hop by hop. `hops` are all of the run, by name; `masked` is whether embeddings are integers.

    `senders` notes by the hops of a message what kinds of envelopes they take and of whom.
    """

    spec: PartySpec
    hops: Mapping[str, Hop]
    masked: bool = False
    senders: dict[tuple[str, ...], set[tuple[Kind | None, PartyId]]] = field(
        default_factory=dict[tuple[str, ...], set[tuple[Kind | None, PartyId]]]
    )

    def hop(self, name: str) -> Hop:
        """Return a hop of this party's role by name; raises `WireError` for any other."""
        hop = self.hops.get(name)
        if hop is None or hop.role != self.spec.role:
            raise WireError(f"{self.spec.party} was asked for hop {name!r}, allowed those of a {self.spec.role.value}")
        return hop

    def kinds(self, hop: Hop) -> set[Kind | None]:
        """Return the kinds of envelopes that a hop takes."""
        return {self.hops[name].gives for name in hop.takes}

    def refuse_strangers(self, hops: Sequence[Hop], received: Sequence[Envelope]) -> None:
        """Raise `WireError` for an envelope that none of the hops takes: its kind, its sender, or its type."""
        if not received:
            return
        names = tuple(hop.name for hop in hops)
        allowed = self.senders.get(names)
        if allowed is None:
            sources = [self.hops[name] for hop in hops for name in hop.takes]
            allowed = {(hop.gives, party) for hop in sources for party in self.spec.roster.of(hop.role)}
            self.senders[names] = allowed
        for envelope in received:
            stranger = (envelope.kind, envelope.src) not in allowed
            usable = self.masked or envelope.kind not in LEARNED or envelope.body.is_floating_point()
            if not stranger and usable:
                continue
            got = f"{self.spec.party} got the {envelope.kind.value} envelope of {envelope.src!r}"
            asked = "+".join(names)
            if stranger:
                raise WireError(f"{got} at {asked}, which takes none of its kind from there")
            raise WireError(f"{got} of type {envelope.body.dtype} at {asked}; it cannot use the {envelope.kind.value}")

    def refuse_misfits(self, hop: Hop, given: Mail, expected: Callable[[], int | None], error: Exception) -> None:
        """Raise `WireError` where a handler failed because of what it was sent: absent mail, or another shape.

        `expected` gives how many rows the step is about.
        """
        sources = [self.hops[name] for name in hop.takes if self.hops[name].gives is not None]
        absent = [
            party
            for source in sources
            for party in self.spec.roster.of(source.role)
            if party not in given and source.role != self.spec.role
        ]
        if absent:
            missing = f"no mail of {', '.join(absent)} at {hop.name}"
            raise WireError(f"{self.spec.party} got {missing}; it was cut out on the way") from error
        rows = expected()
        for party, envelope in given.items():
            shape = tuple(envelope.body.shape)
            width = self.spec.model.widths.get(self.spec.party if envelope.kind == Kind.GRADIENT else party)
            if envelope.kind in LEARNED and (shape[1] != width or shape[0] != rows):
                got = f"{envelope.kind.value} of {party} of shape {shape} at {hop.name}"
                raise WireError(f"{self.spec.party} cannot use the {got}, allowed {(rows, width)}") from error
