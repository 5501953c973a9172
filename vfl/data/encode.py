"""Turn one party's raw columns into tensors, by a state learned from its training rows alone."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from vfl.data.checks import check_columns
from vfl.errors import DataError
from vfl.types import TableSchema

UNKNOWN, MISSING, FIRST = 0, 1, 2
"""Ids of a value outside the vocabulary, of a missing value, and of the vocabulary's first entry."""


@dataclass(frozen=True, slots=True)
class EncodeOptions:
    """How vocabularies are learned: a value seen in fewer than `min_count` training rows is out of vocabulary.

    With 1, no training row has the out-of-vocabulary id, so that its embedding stays as it was drawn.
    """

    min_count: int = 5

    def __post_init__(self) -> None:
        if self.min_count < 1:
            raise ValueError(f"got min_count={self.min_count}, allowed 1 or more; 1 keeps every value")


@dataclass(frozen=True, slots=True)
class Encoder:
    """What one party learned of its columns; it keeps it, and no other party sees it.

    Numeric column j becomes `(x - mean[j]) / scale[j]`; a missing value becomes 0, which is the training mean; a
    column that is constant over the training rows has scale 0 and becomes 0 throughout. Categorical ids are 0 for a
    value outside `vocabularies[j]` (sorted), 1 for a missing one, and 2 onwards for the entries.
    """

    numeric: tuple[str, ...]
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    categorical: tuple[str, ...]
    vocabularies: tuple[tuple[str, ...], ...]

    @property
    def schema(self) -> TableSchema:
        """Column names, and the number of ids of each categorical one."""
        return TableSchema(self.numeric, self.categorical, tuple(len(words) + FIRST for words in self.vocabularies))

    def transform(self, frame: pd.DataFrame) -> tuple[Tensor, Tensor]:
        """Return `(n, p)` float32 and `(n, f)` int64 for the `n` rows of a frame that has this encoder's columns.

        Raises `DataError` naming the column that is absent, is no number, or holds an infinite or far too large value.
        """
        check_columns(self.numeric + self.categorical, set(frame.columns))
        ids = np.empty((len(frame), len(self.categorical)), np.int64)
        for place, (name, words) in enumerate(zip(self.categorical, self.vocabularies, strict=True)):
            ids[:, place] = _ids(pd.Series(frame[name]), words)
        return torch.from_numpy(self._standardised(frame)), torch.from_numpy(ids)

    def to_json(self) -> str:
        """Return the state as JSON text; numbers survive exactly."""
        return json.dumps(asdict(self), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Encoder:
        """Rebuild an encoder from `to_json`; raises `DataError` for any other text."""
        try:
            state = json.loads(text)
            words = tuple(tuple(map(str, entries)) for entries in state.pop("vocabularies"))
            parts = {name: tuple(values) for name, values in state.items()}
            encoder = cls(**parts, vocabularies=words)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise DataError(f"got no encoder state ({error}), allowed what to_json wrote; train again") from None
        lengths = {len(encoder.numeric), len(encoder.mean), len(encoder.scale)}
        if len(lengths) > 1 or len(encoder.categorical) != len(words):
            raise DataError("got an encoder state of uneven lengths, allowed what to_json wrote; train again")
        return encoder

    def _standardised(self, frame: pd.DataFrame) -> np.ndarray:
        values = _numbers(frame, self.numeric)
        scale = np.array(self.scale, np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            values -= np.array(self.mean, np.float64)
            values /= np.where(scale > 0, scale, 1.0)
            out = values.astype(np.float32)
        _refuse(np.isinf(out), self.numeric)
        out[:, scale == 0] = 0.0
        np.nan_to_num(out, copy=False, nan=0.0)
        return out


def fit(
    frame: pd.DataFrame,
    train_rows: np.ndarray,
    numeric: Sequence[str],
    categorical: Sequence[str],
    options: EncodeOptions | None = None,
) -> Encoder:
    """Learn a party's `Encoder` from the rows of `frame` at the positions `train_rows`, `(m,)` int, and no others.

    Standard deviations are those of the population (divided by m), over the values that are there. Raises `DataError`
    naming the column that is absent, is no number, or holds an infinite or far too large value, and for `m` = 0.
    """
    return fit_batches([frame.iloc[train_rows]], numeric, categorical, options)


def fit_batches(
    batches: Iterable[pd.DataFrame],
    numeric: Sequence[str],
    categorical: Sequence[str],
    options: EncodeOptions | None = None,
) -> Encoder:
    """Learn a party's `Encoder` from its training rows, some at a time; what is kept of them are counts and sums.

    However the rows are batched the vocabularies are the same, means and scales but for rounding. Raises as `fit`.
    """
    options = options or EncodeOptions()
    moments = Moments.none(len(numeric))
    counts = [Counter[str]() for _ in categorical]
    for frame in batches:
        check_columns([*numeric, *categorical], set(frame.columns))
        moments = moments + Moments.of(_numbers(frame, numeric))
        for name, counted in zip(categorical, counts, strict=True):
            counted.update(_counted(pd.Series(frame[name])))
    if moments.rows == 0:
        raise DataError("got 0 training rows, allowed one or more; lower test or valid")
    mean, scale = moments.scaling(numeric)
    words = tuple(tuple(sorted(word for word, n in each.items() if n >= options.min_count)) for each in counts)
    return Encoder(tuple(numeric), tuple(mean.tolist()), tuple(scale.tolist()), tuple(categorical), words)


@dataclass(frozen=True, slots=True)
class Moments:
    """Count, mean and sum of squared deviations of the values that are there, `(p,)` each; sums of these add up.

    Reference: T. F. Chan, G. H. Golub, R. J. LeVeque, Updating Formulae and a Pairwise Algorithm for Computing Sample
    Variances, COMPSTAT 1982, https://doi.org/10.1007/978-3-642-51461-6_3
    """

    rows: int
    count: np.ndarray
    mean: np.ndarray
    squares: np.ndarray

    @classmethod
    def none(cls, columns: int) -> Moments:
        """Return the moments of no rows."""
        return cls(0, *(np.zeros(columns) for _ in range(3)))

    @classmethod
    def of(cls, values: np.ndarray) -> Moments:
        """Return the moments of `(rows, p)` float64 values, NaN where one is missing."""
        there = ~np.isnan(values)
        count = there.sum(axis=0)
        with np.errstate(over="ignore", invalid="ignore"):
            mean = np.where(there, values, 0.0).sum(axis=0) / np.maximum(count, 1)
            spread = np.where(there, values - mean, 0.0)
            return cls(len(values), count, mean, (spread * spread).sum(axis=0))

    def __add__(self, other: Moments) -> Moments:
        """Return the moments of both sets of rows."""
        if not self.rows:
            return other
        count = self.count + other.count
        share = other.count / np.maximum(count, 1)
        with np.errstate(over="ignore", invalid="ignore"):
            apart = other.mean - self.mean
            squares = self.squares + other.squares + apart * apart * self.count * share
            return Moments(self.rows + other.rows, count, self.mean + apart * share, squares)

    def scaling(self, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and standard deviation, 0 where what varies is rounding; raises `DataError` if not finite."""
        count = np.maximum(self.count, 1)
        scale = np.sqrt(self.squares / count)
        _refuse(~np.isfinite(np.stack([self.mean, scale])), names)
        rounding = np.abs(self.mean) * count * np.finfo(np.float64).eps
        return self.mean, np.where(scale > rounding, scale, 0.0)


def _numbers(frame: pd.DataFrame, names: Sequence[str]) -> np.ndarray:
    values = np.empty((len(frame), len(names)), np.float64)
    for place, name in enumerate(names):
        try:
            values[:, place] = frame[name].to_numpy(np.float64, na_value=np.nan)
        except (ValueError, TypeError) as error:
            raise DataError(f"got text ({error}), allowed numbers; make the column categorical", key=name) from None
    return values


def _refuse(broken: np.ndarray, names: Sequence[str]) -> None:
    if broken.any():
        message = "got an infinite or far too large value, allowed finite numbers; clean the column or leave it out"
        raise DataError(message, key=names[int(np.flatnonzero(broken.any(axis=0))[0])])


def _counted(column: pd.Series) -> Counter[str]:
    codes, values = pd.factorize(column)
    found = Counter[str]()
    for value, count in zip(values, np.bincount(codes[codes >= 0], minlength=len(values)).tolist(), strict=True):
        found[str(value)] += count
    return found


def _ids(column: pd.Series, words: tuple[str, ...]) -> np.ndarray:
    codes, values = pd.factorize(column)
    places = pd.Index(words, dtype=object).get_indexer(pd.Index([str(value) for value in values], dtype=object))
    return np.append(np.where(places < 0, UNKNOWN, places + FIRST), MISSING)[codes]
