"""Deal the columns of one table to parties where nobody names them: by importance, or by correlation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd
import pydantic

from vfl.data.tables import column
from vfl.errors import ConfigError, unknown_name
from vfl.seeds import Seeds
from vfl.types import ADVERTISER, PartyId

SAMPLE_ROWS = 10_000
"""Rows, from the top of the table, that correlations are measured on."""

RESTARTS, PATIENCE, TOLERANCE = 8, 200, 1e-3
"""The search for a split: how often it starts anew, after how many vain swaps it stops, how near is near enough."""

Read = Callable[[Sequence[str]], pd.DataFrame]


class ColumnPartition(Protocol):
    """A way to deal columns: a frozen dataclass of options."""

    def deal(self, columns: Sequence[str], read: Read, seeds: Seeds) -> dict[PartyId, tuple[str, ...]]:
        """Return each party's columns, one or more; `read` gives the values of columns where they matter."""
        ...


@dataclass(frozen=True, slots=True)
class Importance:
    """Deal columns so that what they are worth is spread unevenly: shares of the parties ~ Dirichlet(alpha).

    Every party first gets one column at random, then each other column goes to party k with its drawn share as the
    probability. A large `alpha` gives all parties alike, a small one nearly everything to one of them. Parties are
    `publisher_1`, .. (`publisher` if there is one) and the advertiser; `parties` counts them all.

    Reference: Zhaomin Wu, Junyi Hou, Bingsheng He, VertiBench: Advancing Feature Distribution Diversity in Vertical
    Federated Learning Benchmarks, ICLR 2024, https://arxiv.org/abs/2307.02040
    """

    alpha: float = 1.0
    parties: int = 2

    def __post_init__(self) -> None:
        if not self.alpha > 0:
            raise ValueError(f"got alpha={self.alpha}, allowed numbers above 0; 1 is uniform over all shares")
        _check_parties(self.parties)

    def deal(self, columns: Sequence[str], read: Read, seeds: Seeds) -> dict[PartyId, tuple[str, ...]]:
        """Return each party's columns in the order of the table; no value is read."""
        names = _parties(self.parties, columns)
        generator = seeds.numpy("partition")
        shares = generator.dirichlet([self.alpha] * len(names))
        if not np.isfinite(shares).all() or shares.sum() <= 0:
            shares = np.eye(len(names))[generator.integers(len(names))]
        owner = generator.choice(len(names), size=len(columns), p=shares / shares.sum())
        owner[generator.choice(len(columns), size=len(names), replace=False)] = np.arange(len(names))
        return _dealt(columns, owner, names)


@dataclass(frozen=True, slots=True)
class Correlation:
    """Deal columns, as many to each party, by how much the parties' columns say of one another.

    With Spearman correlations, `pcor(A, B)` is the standard deviation of the singular values of the block of A's
    columns by B's, over the square root of its smaller side, and `icor` is the mean of `pcor` between parties less its
    mean within them. `beta` 0 looks for the least `icor` (related columns stay together), 1 for the greatest, and
    between them for that share of the way. Categorical columns count by the order of their values' text.

    We search by swapping two columns of different parties while that comes nearer, from several random deals, where
    the paper uses a genetic algorithm; neither is sure to find the extremes.

    Reference: Zhaomin Wu, Junyi Hou, Bingsheng He, VertiBench: Advancing Feature Distribution Diversity in Vertical
    Federated Learning Benchmarks, ICLR 2024, https://arxiv.org/abs/2307.02040
    """

    beta: float = 0.5
    parties: int = 2

    def __post_init__(self) -> None:
        if not 0 <= self.beta <= 1:
            raise ValueError(f"got beta={self.beta}, allowed 0 to 1; 0 keeps related columns together")
        _check_parties(self.parties)

    def deal(self, columns: Sequence[str], read: Read, seeds: Seeds) -> dict[PartyId, tuple[str, ...]]:
        """Return each party's columns in the order of the table, measured on its first rows."""
        names = _parties(self.parties, columns)
        matrix = correlations(read(columns).head(SAMPLE_ROWS))
        generator = seeds.numpy("partition")
        start = np.sort(np.arange(len(columns)) % len(names))
        least = _search(matrix, start, generator, lambda value: value)
        most = _search(matrix, start, generator, lambda value: -value)
        low, high = icor(matrix, least), icor(matrix, most)
        aim = low + self.beta * (high - low)
        owner = {0.0: least, 1.0: most}.get(self.beta)
        if owner is None:
            owner = _search(matrix, start, generator, lambda value: abs(value - aim))
        return _dealt(columns, owner, names)


PARTITIONS: Mapping[str, type[ColumnPartition]] = {"importance": Importance, "correlation": Correlation}


def partition(spec: Mapping[str, Any]) -> ColumnPartition:
    """Make a partition from `{"name": NAME, option: value}`; raises `ConfigError` for what it does not allow."""
    options = dict(spec)
    name = str(options.pop("name"))
    if name not in PARTITIONS:
        raise ConfigError(unknown_name("split", name, PARTITIONS), key="split.name")
    try:
        config = pydantic.ConfigDict(extra="forbid")
        checked = pydantic.dataclasses.dataclass(PARTITIONS[name], config=config, frozen=True)
        pydantic.TypeAdapter(checked).validate_python(options)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        key = ".".join(["split", *(str(part) for part in first["loc"])])
        reason = first["msg"].removeprefix("Value error, ")
        raise ConfigError(f"got {first['input']!r} for split {name!r}; {reason}", key=key) from None
    return PARTITIONS[name](**options)


def correlations(frame: pd.DataFrame) -> np.ndarray:
    """Return the `(columns, columns)` Spearman correlations, 0 for a constant column; text is ranked by its order."""
    ranks = {name: column(frame, str(name)).rank().to_numpy(np.float64) for name in frame.columns}
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.nan_to_num(pd.DataFrame(ranks).corr(method="pearson").to_numpy(np.float64))


def icor(matrix: np.ndarray, owner: np.ndarray) -> float:
    """Return the mean `pcor` between parties less the mean within them; `owner` is the party of each column."""
    parties = range(int(owner.max()) + 1)
    within = [_pcor(matrix[np.ix_(owner == one, owner == one)]) for one in parties]
    between = [
        _pcor(matrix[np.ix_(owner == one, owner == other)]) for one in parties for other in parties if one != other
    ]
    return float(np.mean(between) - np.mean(within))


def _pcor(block: np.ndarray) -> float:
    values = np.linalg.svd(block, compute_uv=False)
    return float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0


def _search(
    matrix: np.ndarray, start: np.ndarray, generator: np.random.Generator, loss: Callable[[float], float]
) -> np.ndarray:
    best, best_loss = start, loss(icor(matrix, start))
    for _ in range(RESTARTS):
        owner = generator.permutation(start)
        current, failed = loss(icor(matrix, owner)), 0
        while failed < PATIENCE:
            one, other = generator.integers(len(owner), size=2)
            swapped = owner.copy()
            swapped[[one, other]] = owner[[other, one]]
            after = loss(icor(matrix, swapped)) if owner[one] != owner[other] else current
            owner, current, failed = (swapped, after, 0) if after < current - 1e-12 else (owner, current, failed + 1)
        if current < best_loss:
            best, best_loss = owner, current
        if 0 <= best_loss < TOLERANCE:
            break
    return best


def _parties(count: int, columns: Sequence[str]) -> tuple[PartyId, ...]:
    if count > len(columns):
        raise ConfigError(
            f"got {count} parties for {len(columns)} columns, allowed as many as columns; lower it", key="split.parties"
        )
    publishers = ("publisher",) if count == 2 else tuple(f"publisher_{place}" for place in range(1, count))
    return (*publishers, ADVERTISER)


def _dealt(columns: Sequence[str], owner: np.ndarray, names: Sequence[PartyId]) -> dict[PartyId, tuple[str, ...]]:
    return {
        name: tuple(column for column, party in zip(columns, owner, strict=True) if party == place)
        for place, name in enumerate(names)
    }


def _check_parties(parties: int) -> None:
    if parties < 2:
        raise ValueError(f"got parties={parties}, allowed 2 or more; the advertiser counts as one")
