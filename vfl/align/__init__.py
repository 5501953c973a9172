"""Entity alignment: which rows do the parties share, learned by exchanging messages and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from vfl.seeds import Seeds
from vfl.types import Hop, PartyId


@dataclass(frozen=True, slots=True)
class Alignment:
    """What one party knows once the rows are aligned.

    `order` is `(n,)` int64: `order[handle]` is the row in this party's own table. Handles run over the training rows,
    then validation, then test, shuffled within each; `train`, `valid`, `test` count them. `only` are this party's own
    rows that are not aligned, `(m,)`. `held` counts rows by who holds them and is known to the advertiser alone:
    keys are party ids, or ids joined by `+` for rows that some but not all publishers share.
    """

    order: Tensor
    train: int
    valid: int
    test: int
    only: Tensor
    held: Mapping[str, int] = field(default_factory=dict[PartyId, int])


class AlignSide(Protocol):
    """One party's half of an aligner: handlers named by its hops, and the alignment once they have run."""

    @property
    def alignment(self) -> Alignment | None:
        """What this party knows in the end; `None` before the last hop has run."""
        ...


class Aligner(Protocol):
    """A frozen dataclass of options with one round of hops. It sees row ids, never features or labels.

    Ids are `(n,)` int64 and unique. The advertiser's `pools` give each of its rows 0 (train), 1 (valid) or 2 (test).
    """

    @property
    def hops(self) -> tuple[Hop, ...]:
        """The round that aligns; its last hop at each role leaves the alignment behind."""
        ...

    def publisher(self, ids: Tensor, seeds: Seeds) -> AlignSide:
        """Return a publisher's side."""
        ...

    def advertiser(self, ids: Tensor, pools: Tensor, seeds: Seeds, publishers: tuple[PartyId, ...]) -> AlignSide:
        """Return the advertiser's side."""
        ...
