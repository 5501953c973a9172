"""A party's rows by handle, and the batches that step headers ask for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from parties.table import Table
from vfl.align import Alignment
from vfl.defenses import hard
from vfl.errors import DataError
from vfl.sealed import Sealed
from vfl.seeds import Seeds
from vfl.types import Batch, Pool, Step

LEFTOVER_STRIDE = 1 << 24
"""Handles of the first party's leftovers start here, the next party's a stride later: no two rows share a handle."""

WINDOW_ROWS = 2**15
"""Rows that are gathered at once."""


def leftover_base(place: int) -> int:
    """Return the first leftover handle of the party at this place of the roster, counted from 0."""
    return (place + 1) * LEFTOVER_STRIDE


def leftover_order(count: int, seeds: Seeds) -> Tensor:
    """Return `(count,)`: which of a party's leftover rows, in table order, has each leftover handle.

    `seeds` is the party's own scope, so that its handles tell nobody else where a row stands in its table.
    """
    return torch.randperm(count, generator=seeds.torch("leftover"))


class Rows:
    """Encoded features, and labels where the party owns them, of every row by handle: aligned, then its own.

    `table` holds the features in the order of the party's own table. An epoch's rows are gathered in the order all
    parties share, `WINDOW_ROWS` at a time, so that a batch is a slice. `base` is the first
    handle of the party's own leftover rows and `leftover` the order they stand in, `(n,)` positions in `only`.
    `relabel`, where a defense makes labels anew, gives those of an epoch by local row, `(n,)` classes or `(n, classes)`
    weights.
    """

    def __init__(
        self,
        table: Table,
        alignment: Alignment,
        labels: Sealed[Tensor] | None,
        shared: Seeds,
        base: int = LEFTOVER_STRIDE,
        leftover: Tensor | None = None,
    ) -> None:
        own = alignment.only if leftover is None else alignment.only[leftover]
        order = torch.cat([alignment.order, own])
        self._table, self._order = table, order
        self._labels = None if labels is None else Sealed(labels.open()[order])
        self.relabel: Callable[[int], Sealed[Tensor]] | None = None
        self._believed = (torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.int64))
        self._shared, self._base, self._aligned = shared, base, len(alignment.order)
        edges = [0, alignment.train, alignment.train + alignment.valid, self._aligned, len(order)]
        pools = (Pool.TRAIN, Pool.VALID, Pool.TEST, Pool.LEFTOVER)
        self._spans = {pool: (edges[place], edges[place + 1]) for place, pool in enumerate(pools)}
        self._epochs: dict[Pool, tuple[tuple[str, int, bool], Tensor]] = {}
        self._windows: dict[Pool, tuple[int, Batch]] = {}
        self._batches: dict[Pool, tuple[Step, Batch]] = {}

    @property
    def labelled(self) -> bool:
        """Whether this party owns labels."""
        return self._labels is not None

    @property
    def counts(self) -> dict[Pool, int]:
        """How many rows of each pool this party holds."""
        return {pool: stop - start for pool, (start, stop) in self._spans.items()}

    def labels(self, rows: Tensor) -> Tensor:
        """Return the `(rows,)` labels of some handles; only a party that owns labels asks.

        For leftover rows of another party it returns what `believe` was told last, and -1 where it was told nothing.
        """
        if self._labels is None:
            raise PermissionError("this party holds no labels")
        own = self.holds(rows)
        found = torch.full_like(rows, -1)
        found[own] = hard(self._labels.open()[self._places(rows[own])])
        known, believed = self._believed
        if len(known):
            place = torch.searchsorted(known, rows).clamp_max(len(known) - 1)
            guessed = ~own & (known[place] == rows)
            found[guessed] = believed[place[guessed]]
        return found

    def holds(self, rows: Tensor) -> Tensor:
        """Return which of some handles are this party's: aligned, or leftovers of its own."""
        return (rows < self._aligned) | ((rows >= self._base) & (rows < self._base + self.counts[Pool.LEFTOVER]))

    def believe(self, rows: Tensor, labels: Tensor) -> None:
        """Take these classes for the labels of another party's rows, until told others: for this party's defenses."""
        order = torch.argsort(rows)
        self._believed = (rows[order], labels[order])

    def features(self) -> Batch:
        """Return the features of every aligned row in handle order, without labels."""
        return Batch(torch.arange(self._aligned), *self._table.take(self._order[: self._aligned]))

    def batch(self, step: Step) -> Batch:
        """Return this party's rows of a step; the same object for every hop of a step."""
        pool = Pool.TRAIN if step.pool in (Pool.LABELLED, Pool.UNION) else step.pool
        cached = self._batches.get(pool)
        if cached is None or (cached[0] is not step and cached[0] != step):
            self._batches[pool] = cached = (step, self._read(step if step.pool is pool else replace(step, pool=pool)))
        return cached[1]

    def take(self, rows: Tensor) -> Batch:
        """Return the rows of these handles, which must be this party's: aligned, or leftovers of its own."""
        places = self._places(rows)
        labels = None if self._labels is None else self._labels.open()[places]
        return Batch(rows, *self._table.take(self._order[places]), labels)

    def handles(self, pool: Pool) -> Tensor:
        """Return the `(n,)` handles of a pool in handle order.

        Raises `DataError` for leftover rows where there are so many rows that two would share a handle.
        """
        start, stop = self._spans[pool]
        if pool == Pool.LEFTOVER and (self._aligned > self._base or stop - start > LEFTOVER_STRIDE):
            got = f"got {self._aligned} aligned rows and {stop - start} of one party alone"
            message = f"{got}, allowed {self._base} and {LEFTOVER_STRIDE} where a method trains on the latter"
            raise DataError(f"{message}; use fewer rows, or a method for aligned rows")
        return torch.arange(start, stop) + (self._base - self._aligned if pool == Pool.LEFTOVER else 0)

    def _places(self, rows: Tensor) -> Tensor:
        return torch.where(rows < self._aligned, rows, rows - self._base + self._aligned)

    def _read(self, step: Step) -> Batch:
        rows = self._epoch(step)
        count = rows.shape[0]
        span = step.span(count)
        stop = min(span.stop, count)
        first, window = self._windows.get(step.pool, (0, None))
        if window is None or not first <= span.start <= stop <= first + window.rows.shape[0]:
            first, window = span.start, self.take(rows[span.start : max(stop, span.start + WINDOW_ROWS)])
            self._windows[step.pool] = (first, window)
        return _take(window, slice(span.start - first, stop - first))

    def _epoch(self, step: Step) -> Tensor:
        """Return the handles of an epoch in its order."""
        key = (step.phase, step.epoch, step.shuffle)
        cached = self._epochs.get(step.pool)
        if cached is None or cached[0] != key:
            rows = self.handles(step.pool)
            if step.shuffle:
                generator = self._shared.torch("batches", step.phase, step.pool.value, step.epoch)
                rows = rows[torch.randperm(len(rows), generator=generator)]
            if self.relabel is not None and step.pool == Pool.TRAIN:
                self._labels = Sealed(self.relabel(step.epoch).open()[self._order])
            self._epochs[step.pool] = cached = (key, rows)
            self._windows.pop(step.pool, None)
        return cached[1]


def _take(whole: Batch, span: slice) -> Batch:
    labels = None if whole.labels is None else whole.labels[span]
    return Batch(whole.rows[span], whole.numeric[span], whole.categorical[span], labels)
