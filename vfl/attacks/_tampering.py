"""What attacks that tamper share: which rows they tamper with, and the checks of their options."""

from __future__ import annotations

import torch
from torch import Tensor

MIXER, MODULUS = 2654435761, 1 << 32


def spread(rows: Tensor, share: float, shift: int = 0) -> Tensor:
    """Return the `(rows,)` mask of a share of handles that is spread evenly and never changes.

    With another `shift` it is a share drawn apart from the first.
    """
    return ((rows + shift * 40503) * MIXER % MODULUS).double() < share * MODULUS


def watched(rounds: int) -> None:
    """Raise `ValueError` unless a number of rounds to watch is one."""
    if rounds < 1:
        raise ValueError(f"watch: got {rounds}, allowed from 1; it must end before training does")


def share_of(name: str, share: float) -> None:
    """Raise `ValueError` unless a share of rows is above 0 and at most 1."""
    if not 0 < share <= 1:
        raise ValueError(f"{name}: got {share}, allowed above 0 up to 1; it is a share of rows")


def paired(rows: Tensor, sources: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return as many places of `sources` as of `targets`, `(k,)` each, in the order of their handles in `rows`."""
    first, second = (mask.nonzero()[:, 0] for mask in (sources, targets))
    first, second = first[rows[first].argsort()], second[rows[second].argsort()]
    count = min(len(first), len(second))
    return first[:count], second[:count]


def no_rows(body: Tensor) -> Tensor:
    """Return the `(rows,)` mask of none."""
    return torch.zeros(len(body), dtype=torch.bool)
