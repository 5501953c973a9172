"""The referee: the only reader of truth outside the label party. It turns scores and guesses into figures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vfl.attacks import Guess
from vfl.errors import VflError
from vfl.sealed import Sealed
from vfl.seeds import Seeds
from vfl.transcript import Hints


@dataclass(frozen=True, slots=True)
class Truth:
    """The classes of all aligned rows by handle, `(n,)` int64, sealed; handles below `train` are training rows.

    `leftover` are the sorted handles of rows that one party holds, and their classes, `(m,)` each.
    """

    labels: Sealed[Tensor]
    train: int
    classes: int
    leftover: tuple[Tensor, Tensor] = (torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.int64))

    def of(self, rows: Tensor) -> Tensor:
        """Return the `(n,)` classes of some handles; raises `VflError` for a handle that no row has."""
        aligned = self.labels.open()
        own = rows < len(aligned)
        found = torch.empty_like(rows)
        found[own] = aligned[rows[own]]
        if not bool(own.all()):
            handles, classes = self.leftover
            place = torch.searchsorted(handles, rows[~own]).clamp_max(max(len(handles) - 1, 0))
            if not len(handles) or not torch.equal(handles[place], rows[~own]):
                raise VflError("a row handle stands for no row of this run")
            found[~own] = classes[place]
        return found


def grant(truth: Truth, labelled_rows: int, seeds: Seeds) -> Hints:
    """Draw the labelled training rows that a threat model grants, one of each class first where there are enough.

    An adversary that may know k rows knows at least one of the rarer class: it made that purchase itself (Li et al.).
    """
    labels = truth.labels.open()[: truth.train]
    order = torch.randperm(len(labels), generator=seeds.torch("hints"))
    counts = torch.bincount(labels, minlength=truth.classes)
    rarest_first = torch.argsort(counts, stable=True).tolist()
    firsts = [order[labels[order] == label][:1] for label in rarest_first]
    chosen = torch.cat([*firsts, order])
    chosen = torch.from_numpy(chosen.numpy()[np.sort(np.unique(chosen.numpy(), return_index=True)[1])])
    rows = chosen[: min(labelled_rows, len(labels))]
    return Hints(rows, labels[rows])


def everything(truth: Truth) -> Hints:
    """Return the labels of all training rows: what an attack's upper bound is computed with."""
    rows = torch.arange(truth.train)
    return Hints(rows, truth.of(rows))


def refuse_hinted(guess: Guess, hints: Hints) -> None:
    """Raise `VflError` if a guess scores a row whose label the attack was given."""
    hinted = torch.isin(guess.rows, hints.rows)
    if bool(hinted.any()):
        raise VflError(f"the attack scored {int(hinted.sum())} entries of rows it knew the label of; leave them out")


def mark(guess: Guess, truth: Truth, metric: Any, seeds: Seeds) -> dict[str, Any]:  # noqa: ANN401 - any metric of the family
    """Return a metric's figures for a guess, looked up against truth."""
    return metric.result(guess, truth.of(guess.rows), seeds.numpy("intervals"))
