"""Deals the rows of a run: which are held out, and which of the others all parties hold."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np

from experiments.schema import ADVERTISER, Config
from vfl.data import Described, Keyed, Source
from vfl.data.checks import check_columns
from vfl.data.cut import TRAIN, RowCut
from vfl.data.shard import official_test
from vfl.data.stratified import common_by_class, held_out_by_class
from vfl.data.tables import column
from vfl.data.timing import by_time
from vfl.errors import ConfigError
from vfl.registry import find
from vfl.seeds import Seeds
from vfl.types import PartyId


def reads_rows(config: Config) -> bool:
    """Return whether values of the table decide who gets which row, so that somebody must read them."""
    return isinstance(config.holdout.by, dict) or by_class(config)


def by_class(config: Config) -> bool:
    """Return whether labels decide who gets which row."""
    return config.holdout.by == "stratified" or config.align.stratified


def cut_rows(
    config: Config,
    source: Source,
    described: Described,
    root: Path | None,
    publishers: tuple[PartyId, ...],
    own: Seeds | None = None,
) -> RowCut:
    """Return how rows are dealt; `described` is the advertiser's table, whose rows are cut.

    Draws by class are of `own`, the advertiser's stream: whoever knows them and the pools can name rows of a rare
    class. Without it they are of its scope of the configuration's seed, as in a simulation.

    Raises `ConfigError` or `DataError` for a cut that this data set does not allow.
    """
    _check_stratified(config, source)
    draws = (own or Seeds(config.seed).scope("party", ADVERTISER)).scope("cut")
    test_rows, valid_rows = _held_out(config, source, described, root, draws)
    cut = RowCut(
        rows=described.rows,
        seed=Seeds(config.seed).at("split"),
        test=config.holdout.test,
        valid=config.holdout.valid,
        overlap=1.0 if getattr(find("method", config.method.name), "all_aligned", False) else config.align.overlap,
        leftover=config.align.leftover,
        publishers=publishers,
        test_rows=test_rows,
        valid_rows=valid_rows,
        drawn=config.holdout.by == "stratified",
    )
    if not config.align.stratified:
        return cut
    common = common_by_class(source.labels(root), cut.pools() == TRAIN, cut.overlap, draws.numpy("common by class"))
    return replace(cut, common_rows=common)


def _check_stratified(config: Config, source: Source) -> None:
    if config.align.stratified and isinstance(source, Keyed):
        allowed = "allowed for sets that are cut here: which shared rows are of which class is the advertiser's alone"
        raise ConfigError(f"got true for {config.data.name}, {allowed}; leave it out", key="align.stratified")


def _held_out(
    config: Config, source: Source, described: Described, root: Path | None, draws: Seeds
) -> tuple[bytes, bytes]:
    by, table = config.holdout.by, source.of(ADVERTISER, described) if isinstance(source, Keyed) else source
    if by == "official":
        return official_test(source, root), b""
    if by == "stratified":
        labels = np.asarray(table.labels(root))
        return held_out_by_class(labels, config.holdout.test, config.holdout.valid, draws.numpy("held out by class"))
    if by == "random":
        return b"", b""
    name = cast("dict[str, str]", by)["time"]
    check_columns([name], (*described.columns, *described.times), where="holdout.by.time")
    return by_time(column(table.read([name], root), name), name, config.holdout.test, config.holdout.valid)
