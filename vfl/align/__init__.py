"""Entity alignment: which rows do the parties share, learned by exchanging messages and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from vfl.types import PartyId


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
