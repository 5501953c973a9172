"""The referee: the only reader of truth outside the label party. It turns scores and guesses into figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vfl.attacks import Guess
from vfl.errors import VflError
from vfl.holding import column_values
from vfl.sealed import Sealed
from vfl.seeds import Seeds
from vfl.transcript import Hints
from vfl.types import Batch, PartyId, TableSchema

_NONE = torch.empty(0, dtype=torch.int64)
_METRICS = {
    "features": "reconstruction",
    "membership": "membership",
    "proportion": "proportion",
    "outcome": "damage",
    "backdoor": "backdoor",
}


@dataclass(frozen=True, slots=True)
class Truth:
    """The classes of all aligned rows by handle, `(n,)` int64, sealed; handles below `train` are training rows.

    `tables` are the encoded tables of the parties under attack, by handle.
    `answers` are handles of test rows and the class that the joint model gives each, `(m,)` each; `honest` the same of
    a run without the attacks that tamper, where there was one.
    `leftover` are the sorted handles of rows that one party holds, and their classes, `(m,)` each.
    """

    labels: Sealed[Tensor]
    train: int
    classes: int
    leftover: tuple[Tensor, Tensor] = (_NONE, _NONE)
    answers: tuple[Tensor, Tensor] = (_NONE, _NONE)
    honest: tuple[Tensor, Tensor] = (_NONE, _NONE)
    tables: Mapping[PartyId, tuple[Batch, TableSchema]] = field(
        default_factory=dict[PartyId, tuple[Batch, TableSchema]]
    )

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
    """Raise `VflError` if a guess scores a row whose answer the attack was given."""
    given = {"labels": hints.rows, "features": None, "attribute": None}.get(guess.target, _NONE)
    if given is None:
        victim = hints.victims.get(guess.party)
        given = _NONE if victim is None else victim.batch.rows
    hinted = torch.isin(guess.rows, given)
    if bool(hinted.any()):
        raise VflError(f"the attack scored {int(hinted.sum())} entries of rows it knew the answer of; leave them out")


def answer(guess: Guess, truth: Truth) -> Tensor:
    """Return what the guess is held against: `(n,)` classes, or category ids, or membership; `(n, columns)` values.

    Of rows tampered with: `(n, 2)`, 1 or 0 by whether the joint model, and the one that was not tampered with, answers
    wrongly; for a backdoor `(n, 3)`, whether the joint model answers the wanted class comes first. -1 where there is
    no answer, or where the wanted class is the right one.
    """
    if guess.target == "membership":
        return (guess.rows < truth.train).long()
    if guess.target in ("labels", "proportion"):
        return truth.of(guess.rows)
    if guess.target == "outcome":
        return _wrong(guess.rows, truth)
    if guess.target == "backdoor":
        return torch.cat([_turned(guess, truth)[:, None], _wrong(guess.rows, truth)], dim=1)
    batch, schema = truth.tables[guess.party]
    if not guess.columns or not set(guess.columns) <= set(schema.columns):
        raise VflError(f"the attack guessed columns {guess.columns} of {guess.party}, which has {schema.columns}")
    values = column_values(batch, schema, guess.columns)[guess.rows]
    return values[:, 0].long() if guess.target == "attribute" else values


def _wrong(rows: Tensor, truth: Truth) -> Tensor:
    """Return `(n, 2)` by model, the run's own and the honest one: 1 for a wrong answer, 0 for a right one, else -1."""
    told = [_given(rows, truth, answers) for answers in (truth.answers, truth.honest)]
    return torch.stack([torch.where(each < 0, each, (each != truth.of(rows)).long()) for each in told], dim=1)


def _turned(guess: Guess, truth: Truth) -> Tensor:
    """Return `(n,)`: 1 where the joint model answers the class of the reference row, -1 where that is the right one."""
    wanted = truth.of(torch.tensor([guess.reference]))
    told = _given(guess.rows, truth, truth.answers)
    counted = (told >= 0) & (truth.of(guess.rows) != wanted)
    return torch.where(counted, (told == wanted).long(), -1)


def _given(rows: Tensor, truth: Truth, answers: tuple[Tensor, Tensor]) -> Tensor:
    """Return the `(n,)` class that a model gave each row, -1 for rows it was not asked about."""
    asked, classes = answers
    given = torch.full((len(truth.labels.open()),), -1)
    given[asked] = classes
    told = torch.full_like(rows, -1)
    own = rows < len(given)
    told[own] = given[rows[own]]
    return told


def metric_of(guess: Guess, truth: Truth) -> str:
    """Return the metric that marks a guess: by its target, and for labels by how many classes there are."""
    by_target = {"labels": "leak_auc" if truth.classes == 2 else "recovery", "attribute": "recovery"}
    return by_target.get(guess.target) or _METRICS[guess.target]


def mark(guess: Guess, truth: Truth, metric: Any, seeds: Seeds) -> dict[str, Any]:  # noqa: ANN401 - any metric of the family
    """Return a metric's figures for a guess, looked up against truth."""
    return metric.result(guess, answer(guess, truth), seeds.numpy("intervals"))
