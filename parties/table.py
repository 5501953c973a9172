"""A party's encoded rows, in memory where they are small and in a file of its own where they are not."""

from __future__ import annotations

import mmap
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from vfl.data.encode import EncodeOptions, Encoder, fit_batches
from vfl.data.shard import LocalTable
from vfl.data.tables import BATCH_ROWS
from vfl.errors import DataError

RESIDENT_BYTES = 256 * 2**20
"""An encoded table larger than this is kept in a file, and only the rows that are asked for in memory."""

CELL_BYTES = 4
"""A cell of that file is a float32, or an int32 for a category."""

READ_ROWS = 2**12
"""Rows that are read from that file at once."""


class Table(Protocol):
    """Encoded rows in the order of the party's own table."""

    def take(self, places: Tensor) -> tuple[Tensor, Tensor]:
        """Return `(n, p)` float32 and `(n, f)` int64 of the rows at these places, `(n,)` int64."""
        ...


@dataclass(frozen=True, slots=True)
class Resident:
    """Encoded rows in memory: `numeric` `(rows, p)` float32, `categorical` `(rows, f)` int64."""

    numeric: Tensor
    categorical: Tensor

    def take(self, places: Tensor) -> tuple[Tensor, Tensor]:
        """Return the rows at these places."""
        return self.numeric.index_select(0, places), self.categorical.index_select(0, places)


class Mapped:
    """Encoded rows in a nameless file that ends with the process.

    Rows are read through a memory map, `READ_ROWS` at a time in the order of the file, whose pages are given back each
    time: the system maps those around a row with it, and of rows in a shuffled order would map the whole file.
    """

    def __init__(self, parts: Iterable[tuple[Tensor, Tensor]], folder: Path | None) -> None:
        with tempfile.TemporaryFile(dir=folder) as file:
            self._numeric = width = 0
            for numeric, categorical in parts:
                self._numeric, width = numeric.shape[1], numeric.shape[1] + categorical.shape[1]
                file.write(torch.cat([numeric.view(torch.int32), categorical.to(torch.int32)], dim=1).numpy().tobytes())
            file.flush()
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._map.madvise(mmap.MADV_RANDOM)
        self._cells = np.frombuffer(self._map, np.int32).reshape(-1, width)

    def take(self, places: Tensor) -> tuple[Tensor, Tensor]:
        """Return the rows at these places."""
        wanted = places.numpy()
        found, order = np.empty((len(wanted), self._cells.shape[1]), np.int32), np.argsort(wanted)
        for start in range(0, len(wanted), READ_ROWS):
            part = order[start : start + READ_ROWS]
            found[part] = self._cells[wanted[part]]
            self._map.madvise(mmap.MADV_DONTNEED)
        cells = torch.from_numpy(found)
        return cells[:, : self._numeric].contiguous().view(torch.float32), cells[:, self._numeric :].to(torch.int64)


def encode(
    local: LocalTable, training: Tensor, options: EncodeOptions, folder: Path | None = None
) -> tuple[Encoder, Table]:
    """Learn an encoder from the `training` rows, `(m,)` places, and return it with all of a party's rows encoded.

    The source is read twice, some rows at a time, unless one batch holds it. `folder` is where a file goes.
    """
    train = np.zeros(local.rows, dtype=bool)
    train[training.numpy()] = True
    whole = [local.frame] if local.rows <= BATCH_ROWS else None

    def batches() -> Iterator[pd.DataFrame]:
        return local.batches() if whole is None else iter(whole)

    try:
        encoder = fit_batches(_selected(batches(), train), local.numeric, local.categorical, options)
        parts = map(encoder.transform, batches())
        columns = len(local.numeric) + len(local.categorical)
        if local.rows * columns * CELL_BYTES > RESIDENT_BYTES:
            return encoder, Mapped(parts, folder)
        return encoder, Resident(*(torch.cat(part) for part in zip(*parts, strict=True)))
    except DataError as error:
        raise error.at(where=local.where) from None


def _selected(batches: Iterator[pd.DataFrame], chosen: np.ndarray) -> Iterator[pd.DataFrame]:
    start = 0
    for frame in batches:
        yield frame.iloc[np.flatnonzero(chosen[start : start + len(frame)])]
        start += len(frame)
