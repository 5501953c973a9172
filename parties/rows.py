"""A party's rows in handle order, and the batches that step headers ask for."""

from __future__ import annotations

import torch
from torch import Tensor

from vfl.align import Alignment
from vfl.sealed import Sealed
from vfl.seeds import Seeds
from vfl.types import Batch, Pool, Step


class Rows:
    """Encoded features, and labels where the party owns them, of every aligned row, laid out by handle.

    An epoch's rows are gathered once in the order all parties share, so that a batch is a slice.
    """

    def __init__(
        self, numeric: Tensor, categorical: Tensor, alignment: Alignment, labels: Sealed[Tensor] | None, shared: Seeds
    ) -> None:
        order = alignment.order
        self._numeric, self._categorical = numeric[order], categorical[order]
        self._labels = None if labels is None else Sealed(labels.open()[order])
        self._shared = shared
        edges = [0, alignment.train, alignment.train + alignment.valid, len(order)]
        pools = (Pool.TRAIN, Pool.VALID, Pool.TEST)
        self._spans = {pool: (edges[place], edges[place + 1]) for place, pool in enumerate(pools)}
        self._epoch: tuple[Step, Batch] | None = None
        self._batch: tuple[Step, Batch] | None = None

    @property
    def labelled(self) -> bool:
        """Whether this party owns labels."""
        return self._labels is not None

    def labels(self, rows: Tensor) -> Tensor:
        """Return the `(rows,)` labels of some handles; only a party that owns labels asks."""
        if self._labels is None:
            raise PermissionError("this party holds no labels")
        return self._labels.open()[rows]

    def features(self) -> Batch:
        """Return the features of every aligned row in handle order, without labels."""
        return Batch(torch.arange(len(self._numeric)), self._numeric, self._categorical)

    def batch(self, step: Step) -> Batch:
        """Return the rows a step header names; the same object for every hop of a step."""
        if self._batch is None or self._batch[0] != step:
            whole, span = self._whole(step), slice(step.start, step.start + step.size)
            self._batch = (step, _take(whole, span))
        return self._batch[1]

    def _whole(self, step: Step) -> Batch:
        key = Step(index=0, phase=step.phase, pool=step.pool, epoch=step.epoch, shuffle=step.shuffle)
        if self._epoch is None or self._epoch[0] != key:
            start, stop = self._spans[step.pool]
            rows = torch.arange(start, stop)
            if step.shuffle:
                generator = self._shared.torch("batches", step.phase, step.pool.value, step.epoch)
                rows = rows[torch.randperm(len(rows), generator=generator)]
            labels = None if self._labels is None else self._labels.open()
            whole = Batch(rows, self._numeric, self._categorical, labels)
            self._epoch = (key, _gather(whole, rows))
        return self._epoch[1]


def _take(whole: Batch, span: slice) -> Batch:
    labels = None if whole.labels is None else whole.labels[span]
    return Batch(whole.rows[span], whole.numeric[span], whole.categorical[span], labels)


def _gather(whole: Batch, rows: Tensor) -> Batch:
    labels = None if whole.labels is None else whole.labels[rows]
    return Batch(rows, whole.numeric[rows], whole.categorical[rows], labels)
