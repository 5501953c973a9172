"""Entity alignment: which rows do the parties share, learned by exchanging messages and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
from torch import Tensor

from vfl.seeds import Seeds
from vfl.types import Hop, PartyId

Ids = Tensor | Sequence[str] | Sequence[bytes]
"""The ids of one party's rows in table order, each once: `(n,)` int64, strings or bytes.

Two ids are the same if their canonical bytes are: a string is its UTF-8, neither trimmed nor normalised nor folded in
case, and a number the decimal digits that write it, so that a column read as numbers by one party and as text by
another still matches.
"""


@runtime_checkable
class Packed(Protocol):
    """What a sequence of texts offers besides that is too long for a Python object each."""

    def take(self, places: np.ndarray) -> list[str]:
        """Return the texts at some places, `(k,)` int64."""
        ...

    def distinct(self) -> bool:
        """Whether no text comes twice."""
        ...


@dataclass(frozen=True, slots=True)
class Alignment:
    """What one party knows once the rows are aligned.

    `order` is `(n,)` int64: `order[handle]` is the row in this party's own table. Handles run over the training rows,
    then validation, then test, shuffled within each; `train`, `valid`, `test` count them. `only` are this party's own
    rows that are not aligned, `(m,)`. `held` counts the rows that not all hold, by who holds them, as far as the
    advertiser, which alone has it, can tell: keys are party ids, or ids joined by `+`.
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


@runtime_checkable
class Foretold(Protocol):
    """What an aligner offers besides whose messages are as long as the tables say, whatever is in them."""

    def answer_bytes(self, asked: int, listed: int) -> int:
        """Return how long a publisher's message is for so many rows of the advertiser's and of its own."""
        ...


class Aligner(Protocol):
    """A frozen dataclass of options with one round of hops. It sees row ids, never features or labels.

    The advertiser's `pools`, `(n,)` of any integer type, give each of its rows 0 (train), 1 (valid) or 2 (test). Its
    last message goes to the referee too: `(shared, 2)` int64, the row of the advertiser's table and its pool, in handle
    order.

    Both raise `DataError` for ids that are not unique or have no canonical bytes.

    An aligner with a true `costly` is worth not playing again where a run before gave the same: what it sends must then
    follow from ids, seeds and options.
    """

    @property
    def hops(self) -> tuple[Hop, ...]:
        """The round that aligns; its last hop at each role leaves the alignment behind."""
        ...

    def publisher(self, ids: Ids, seeds: Seeds) -> AlignSide:
        """Return a publisher's side."""
        ...

    def advertiser(self, ids: Ids, pools: Tensor, seeds: Seeds, publishers: tuple[PartyId, ...]) -> AlignSide:
        """Return the advertiser's side."""
        ...
