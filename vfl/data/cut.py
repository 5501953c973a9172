"""How a table is cut: which rows each party holds and trains on, and what a party is told to load."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from vfl.data import Described
from vfl.errors import ConfigError
from vfl.seeds import Seeds
from vfl.types import PartyId, Role

TRAIN, VALID, TEST = 0, 1, 2
"""Codes of the pools in `RowCut.pools()`."""

ALL = -1
"""Code of a row that every party holds, in `RowCut.holders()`."""


class OfficialTest(Protocol):
    """What a data set offers besides `Source` where `Described.official_test` is set."""

    def test_rows(self, root: Path | None) -> np.ndarray:
        """Return `(rows,)` bool: the rows that the set's authors keep for testing."""
        ...


def pack(mask: np.ndarray) -> bytes:
    """Return a `(rows,)` bool mask as bits, eight rows a byte, for `RowCut.test_rows` and `RowCut.valid_rows`."""
    return np.packbits(mask.astype(bool)).tobytes()


@dataclass(frozen=True, slots=True)
class RowCut:
    """How rows are dealt. Every party computes it alike, from a seed and public facts, and holds no other's values.

    `test` and `valid` are shares of all rows, each at least 0 and together below 1. Of the training rows a share
    `overlap`, 0 to 1, stays common; every other one is kept by exactly one party, dealt by `leftover`:
    `even` (all parties alike), `publisher` (the publishers alike), `advertiser`, the id of one party, or shares by
    party id that sum to 1. Validation and test rows are held by all. Where an official or a time split says which
    rows are for testing or validation, `test_rows` and `valid_rows` bring them, packed by `pack`, instead of the share.

    Counts are exact to within a row. Pools depend on `rows`, `seed` and the holdout alone, and a larger `overlap`
    keeps the common rows of a smaller one, so neither another publisher nor another overlap moves a test row.

    Raises `ConfigError`, naming the key of the configuration, for a share out of range or an unknown party.
    """

    rows: int
    seed: int | bytes
    test: float = 0.25
    valid: float = 0.1
    overlap: float = 1.0
    leftover: Literal["even"] | PartyId | Mapping[PartyId, float] = "even"
    publishers: tuple[PartyId, ...] = ("publisher",)
    advertiser: PartyId = "advertiser"
    test_rows: bytes = field(default=b"", repr=False)
    valid_rows: bytes = field(default=b"", repr=False)
    common_rows: bytes = field(default=b"", repr=False)
    drawn: bool = False

    def __post_init__(self) -> None:
        _require(self.rows >= 1, "data", f"got {self.rows} rows, allowed one or more; check the data file")
        for key, share in (("holdout.test", self.test), ("holdout.valid", self.valid)):
            _require(0 <= share < 1, key, f"got {share}, allowed 0 to below 1; write a share of all rows")
        _require(0 <= self.overlap <= 1, "align.overlap", f"got {self.overlap}, allowed 0 to 1; write a share")
        packed = {len(pack(np.zeros(self.rows))), 0}
        masks = (("holdout.test", self.test_rows), ("holdout.valid", self.valid_rows), ("align", self.common_rows))
        for key, bits in masks:
            _require(len(bits) in packed, key, f"got a mask of {len(bits)} bytes, allowed {max(packed)}; pack all rows")
        _require(
            len(set(self.parties)) == len(self.parties),
            "split",
            f"got the parties {', '.join(self.parties)}, allowed any publishers and the advertiser, each once",
        )
        self._shares()

    @property
    def parties(self) -> tuple[PartyId, ...]:
        """All party ids in the order that `holders()` counts in: the publishers, then the advertiser."""
        return (*self.publishers, self.advertiser)

    def pools(self) -> np.ndarray:
        """Return `(rows,)` int8: 0 for training, 1 for validation, 2 for test.

        Raises `ConfigError` where no row is left for training.
        """
        pools = np.zeros(self.rows, np.int8)
        for code, bits in ((VALID, self.valid_rows), (TEST, self.test_rows)):
            if bits:
                pools[self._mask(bits)] = code
        order = Seeds(self.seed).numpy("pools").permutation(self.rows)
        for code, bits, share in ((TEST, self.test_rows, self.test), (VALID, self.valid_rows, self.valid)):
            if not bits:
                free = order[pools[order] == TRAIN]
                pools[free[: round(share * self.rows)]] = code
        if not (pools == TRAIN).any():
            raise ConfigError("got no row left for training, allowed one or more; lower test or valid", key="holdout")
        return pools

    def holders(self) -> np.ndarray:
        """Return `(rows,)` int16: -1 where all hold the row, else the index in `parties` of the one that does."""
        holders = np.full(self.rows, ALL, np.int16)
        train = np.flatnonzero(self.pools() == TRAIN)
        holders[train] = self.deal(train.size, self._mask(self.common_rows)[train] if self.common_rows else None)
        return holders

    def deal(self, count: int, common: np.ndarray | None = None) -> np.ndarray:
        """Return `(count,)` int16 for that many training rows: -1 where all hold the row, else who alone keeps it.

        `common`, `(count,)` bool, says which rows stay common; without it they are drawn.
        """
        holders = np.full(count, ALL, np.int16)
        order = Seeds(self.seed).numpy("overlap").permutation(count)
        loose = order[round(self.overlap * count) :] if common is None else order[~common[order]]
        ends = np.rint(np.cumsum(self._shares()) * loose.size).astype(np.int64)
        for party, rows in enumerate(np.split(loose, ends[:-1])):
            holders[rows] = party
        return holders

    def fixed(self) -> np.ndarray:
        """Return `(rows,)` bool: validation and test rows that were not drawn at random but named.

        A row among them that not all parties hold is left out altogether: it may lie after the rows that train.
        """
        pools = self.pools()
        named = ((pools == TEST) & bool(self.test_rows)) | ((pools == VALID) & bool(self.valid_rows))
        return named & (not self.drawn)

    def held_by(self, party: PartyId) -> np.ndarray:
        """Return `(n,)` int64, ascending: the rows of the source that `party` holds."""
        known = ", ".join(self.parties)
        _require(party in self.parties, "split", f"got {party!r}, allowed {known}; check the party ids")
        holders = self.holders()
        return np.flatnonzero((holders == ALL) | (holders == self.parties.index(party))).astype(np.int64)

    def _mask(self, bits: bytes) -> np.ndarray:
        return np.unpackbits(np.frombuffer(bits, np.uint8), count=self.rows).astype(bool)

    def _shares(self) -> np.ndarray:
        shares = self.leftover if isinstance(self.leftover, Mapping) else self._named_shares(self.leftover)
        unknown = sorted(set(shares) - set(self.parties))
        known = ", ".join(self.parties)
        _require(not unknown, "align.leftover", f"got {', '.join(unknown)}, allowed even, publisher or {known}")
        dealt = np.array([shares.get(party, 0.0) for party in self.parties], np.float64)
        fair = bool((dealt >= 0).all()) and abs(dealt.sum() - 1) < 1e-6
        _require(fair, "align.leftover", f"got shares {dealt.tolist()} for {known}, allowed 0 or more with the sum 1")
        return dealt / dealt.sum()

    def _named_shares(self, leftover: str) -> Mapping[PartyId, float]:
        roles = {"even": self.parties, "publisher": self.publishers, "advertiser": (self.advertiser,)}
        among = roles.get(leftover, (leftover,)) or self.parties
        return dict.fromkeys(among, 1 / len(among))


@dataclass(frozen=True, slots=True)
class Shard:
    """What one party is told to load: names and numbers, never a value of the table, so that anyone may carry it.

    `source` is the data set as the registry builds it, `{"name": .., option: ..}`; `root` its folder of data files;
    `columns` this party's own features. Labels are loaded where `owns_label` is set, and nowhere else. Where the source
    is `keyed`, each party has rows of its own, `cut` deals the pools of the advertiser's, and its `overlap` and
    `leftover` apply to the rows that alignment finds shared. `known` is what was found of this party's table when the
    source was described, where somebody kept it.
    """

    source: Mapping[str, Any]
    root: str | None
    party: PartyId
    role: Role
    columns: tuple[str, ...]
    owns_label: bool
    cut: RowCut
    keyed: bool = False
    known: Described | None = None


def _require(met: bool, key: str, message: str) -> None:
    if not met:
        raise ConfigError(message, key=key)
