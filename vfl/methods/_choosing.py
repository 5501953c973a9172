"""Which pseudo-labelled rows to trust: those of the lowest score, overall or within each class."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Assessed:
    """What the advertiser thinks of one party's leftover rows, sorted by `(rows,)` handle.

    `classes` are pseudo-labels, `scores` how little they are to be trusted (uncertainty, entropy, or one less the
    confidence), `chosen` which are trained on.
    """

    rows: Tensor
    classes: Tensor
    scores: Tensor
    chosen: Tensor

    def at(self, rows: Tensor) -> Tensor:
        """Return the places of some handles."""
        return torch.searchsorted(self.rows, rows)


def choose(classes: Tensor, scores: Tensor, share: float, per_class: bool) -> Tensor:
    """Return `(rows,)` bool: the `share` of lowest scores, rounded up; ties go to the earlier row.

    With `per_class` the share is taken of each pseudo-class, so that a class the network is less sure of is not left
    out.
    """
    chosen = torch.zeros(len(scores), dtype=torch.bool)
    if not share:
        return chosen
    groups = [torch.nonzero(classes == label)[:, 0] for label in classes.unique()] if per_class else [None]
    for group in groups:
        places = torch.arange(len(scores)) if group is None else group
        keep = math.ceil(share * len(places) - 1e-9)
        chosen[places[torch.argsort(scores[places], stable=True)[:keep]]] = True
    return chosen


def growing(first: float, last: float, place: int, rounds: int) -> float:
    """Return the share of round `place`, 1 to `rounds`, on the line from `first` to `last`."""
    return last if rounds == 1 else first + (last - first) * (place - 1) / (rounds - 1)


def trusted(scores: Tensor, right: Tensor, least: float) -> float:
    """Return the greatest score up to which a share `least` of judged rows is right; below all scores where none is.

    `right` is `(n,)` bool for `(n,)` scores of rows whose class is known. With `least` 0 every score is trusted.
    """
    if not least:
        return math.inf
    order = torch.argsort(scores, stable=True)
    shares = right[order].double().cumsum(0) / torch.arange(1, len(order) + 1)
    good = torch.nonzero(shares >= least)[:, 0]
    return float(scores[order[good[-1]]]) if len(good) else -math.inf
