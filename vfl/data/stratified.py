"""Draws of rows in which each class has its share."""

from __future__ import annotations

import numpy as np

from vfl.data.cut import pack
from vfl.errors import ConfigError


def spread(labels: np.ndarray, draws: np.random.Generator) -> np.ndarray:
    """Return `(rows,)` int64, a random order of all rows whose first ones hold each class by its share of all.

    Among the first `m` a class has its share of `m` to within one row, and as many more as its share times the number
    of classes. Rows of one class come in random order.
    """
    shuffled = draws.permutation(len(labels))
    place = np.empty(len(labels))
    for each in np.unique(labels):
        own = shuffled[labels[shuffled] == each]
        place[own] = (np.arange(own.size) + draws.random()) / own.size
    return shuffled[np.argsort(place[shuffled], kind="stable")]


def held_out_by_class(labels: np.ndarray, test: float, valid: float, draws: np.random.Generator) -> tuple[bytes, bytes]:
    """Return the packed masks of test and of validation rows: these shares of the rows of each class.

    Raises `ConfigError` where no row is left to train or to test on.
    """
    order = spread(labels, draws)
    tested, validated = round(test * len(order)), round(valid * len(order))
    if tested == 0 or tested + validated >= len(order):
        got = f"got {tested} rows to test and {validated} to validate of {len(order)}"
        raise ConfigError(f"{got}, allowed one or more to test and to train; change test or valid", key="holdout")
    return _mask(order[:tested], len(order)), _mask(order[tested : tested + validated], len(order))


def common_by_class(labels: np.ndarray, train: np.ndarray, overlap: float, draws: np.random.Generator) -> bytes:
    """Return the packed mask of the training rows that stay common: the share `overlap` of each class.

    `train` is the `(rows,)` bool mask of training rows. A larger overlap keeps the common rows of a smaller one.
    """
    rows = np.flatnonzero(train)
    order = rows[spread(labels[rows], draws)]
    return _mask(order[: round(overlap * rows.size)], len(train))


def _mask(rows: np.ndarray, count: int) -> bytes:
    mask = np.zeros(count, bool)
    mask[rows] = True
    return pack(mask)
