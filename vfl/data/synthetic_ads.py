"""Made-up clicks and purchases in the shape of advertising data, with the truth behind every row known."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd

from vfl.data import Described
from vfl.data.checks import check_columns
from vfl.seeds import Seeds

BLOCK = 65_536
"""Rows that are drawn together; every block has streams of its own, so that any of them can be made alone."""

INTERESTS = 4
DAYS = 30
DAY_S = 86_400
START_S = 1_700_006_400
"""The first second, a midnight UTC."""

CALIBRATION_ROWS = 262_144
KEY = "request_id"

NUMERIC = {
    "publisher": ("dwell_s", "pages", "clicks_7d", *(f"interest_{place}" for place in range(1, INTERESTS + 1))),
    "advertiser": (
        "bid",
        "promo",
        "exposed",
        "price",
        "rating",
        "visits",
        "cart_adds",
        *(f"topic_{place}" for place in range(1, INTERESTS + 1)),
    ),
}
CATEGORICAL = {
    "publisher": ("user_id", "segment", "device", "placement", "hour"),
    "advertiser": ("item_id", "category", "shop"),
}
TRUTH = ("click_ts", "conv_ts", "refund_ts", "impressions", "p_ctr", "p_cvr", "p_refund", "converted", "refunded")


@dataclass(frozen=True, slots=True)
class Signal:
    """How much each side tells of a purchase, in log-odds a standard deviation, 0 or more.

    `joint` is in the fit of a user's interests to an item's topics, which neither side sees alone.
    """

    publisher: float = 0.8
    advertiser: float = 1.0
    joint: float = 0.5

    def __post_init__(self) -> None:
        if min(self.publisher, self.advertiser, self.joint) < 0:
            raise ValueError("allowed signals of 0 or more; 0 tells nothing")


@dataclass(frozen=True)
class SyntheticAds:
    """Synthetic advertising clicks in the shape of FedAds: users, items, purchases and refunds; nothing here is real.

    A user has a propensity and interests, an item a quality and topics, a click an intent; the log-odds of a purchase
    are a sum of what the publisher can see of it, what the advertiser can, and the fit of interests to topics, weighted
    by `signal`, with a promotion adding `promo_lift`, an exposure to the campaign `exposure_lift`, and `drift` growing
    by that much from the first to the last day. The base is set so that a share `cvr` of clicks converts. Features are
    noisy readings of these: the publisher holds browsing and clicks, the advertiser item, price and what happened
    after the click. Few users and items make most of the rows, as in real logs. `request_id` joins the parties' rows;
    rows are in the order of `click_ts`, seconds, for a holdout in time.

    `truth` gives what is no feature: the times of click, purchase and refund, each row's true probabilities, and how
    often the item was shown until the click, which `p_ctr` rules. A row
    depends on the seed, the options and its place alone, so a party makes its own columns without the others'.
    """

    rows: int = 100_000
    cvr: float = 0.006
    seed: int = 0
    signal: Signal = field(default_factory=Signal)
    users: int = 20_000
    items: int = 2_000
    promo_lift: float = 0.4
    exposure_lift: float = 0.2
    refund_rate: float = 0.1
    drift: float = 0.0

    def __post_init__(self) -> None:
        if min(self.rows, self.users, self.items) < 1:
            raise ValueError("allowed one row, user and item or more; raise rows, users or items")
        if not (0 < self.cvr < 1 and 0 < self.refund_rate < 1):
            raise ValueError("allowed shares above 0 and below 1; write cvr: 0.006 for 0.6 %")

    def describe(self, root: Path | None) -> Described:
        """Return the table's shape; makes no row."""
        split = {party: NUMERIC[party] + CATEGORICAL[party] for party in NUMERIC}
        return Described(
            rows=self.rows,
            numeric=NUMERIC["publisher"] + NUMERIC["advertiser"],
            categorical=CATEGORICAL["publisher"] + CATEGORICAL["advertiser"],
            label="converted",
            classes=("no purchase", "purchase"),
            split=split,
            synthetic=True,
            times=("click_ts",),
        )

    def read(self, columns: Sequence[str], root: Path | None) -> pd.DataFrame:
        """Return these columns for all rows."""
        return pd.concat(list(self.batches(columns, root)), ignore_index=True)

    def batches(self, columns: Sequence[str], root: Path | None) -> Iterator[pd.DataFrame]:
        """Yield these columns a block of rows at a time."""
        check_columns(columns, (*self.describe(root).columns, "click_ts"), where="synthetic_ads")
        yield from self.stream(columns)

    def labels(self, root: Path | None) -> np.ndarray:
        """Return `(rows,)` int64: 1 where the click led to a purchase."""
        return np.concatenate([frame["converted"].to_numpy(np.int64) for frame in self.stream(["converted"])])

    def truth(self, columns: Sequence[str] = TRUTH) -> pd.DataFrame:
        """Return what no party sees as a feature, for the referee and for tests; times are NaN where nothing came."""
        return pd.concat(list(self.stream(columns)), ignore_index=True)

    def stream(self, columns: Sequence[str]) -> Iterator[pd.DataFrame]:
        """Yield these columns, features or truth, a block of rows at a time."""
        base = self._world.base(self)
        for start in range(0, self.rows, BLOCK):
            block = Block(self, self._world, base, start, min(BLOCK, self.rows - start))
            values = {name: block.column(name) for name in columns}
            yield pd.DataFrame(values, index=range(block.size))

    @cached_property
    def _world(self) -> World:
        return World(Seeds(self.seed).scope("synthetic_ads"), self.users, self.items)


class World:
    """All users and items, and the streams that rows are drawn from."""

    def __init__(self, seeds: Seeds, users: int, items: int) -> None:
        self.seeds = seeds
        user, item = seeds.numpy("users"), seeds.numpy("items")
        self.propensity = user.standard_normal(users)
        self.interests = user.standard_normal((users, INTERESTS))
        self.quality = item.standard_normal(items)
        self.topics = item.standard_normal((items, INTERESTS))
        self.price = np.exp(3 + 0.8 * item.standard_normal(items))
        self.category = np.argmax(self.topics, axis=1) * 5 + item.integers(5, size=items)
        self.shop = item.integers(max(items // 10, 1), size=items)

    def base(self, ads: SyntheticAds) -> float:
        """Return the log-odds that make a share `cvr` of clicks convert, found by bisection on rows of its own."""
        rows = Block(ads, self, 0.0, -CALIBRATION_ROWS, CALIBRATION_ROWS)
        others = rows.log_odds
        low, high = -40.0, 40.0
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if _sigmoid(others + middle).mean() < ads.cvr else (low, middle)
        return low


@dataclass(frozen=True)
class Block:
    """Some consecutive rows; each column has a stream of its own."""

    ads: SyntheticAds
    world: World
    base: float
    start: int
    size: int

    def column(self, name: str) -> np.ndarray:
        """Return one column, feature or truth."""
        kind, _, place = name.rpartition("_")
        if kind in ("interest", "topic"):
            latent = self.world.interests[self.user] if kind == "interest" else self.world.topics[self.item]
            return latent[:, int(place) - 1] + 0.5 * self.normal(name)
        return COLUMNS[name](self)

    def normal(self, name: str) -> np.ndarray:
        """Return standard normal noise of a name, `(size,)`."""
        return self.world.seeds.numpy("noise", name, self.start).standard_normal(self.size)

    def uniform(self, name: str) -> np.ndarray:
        """Return uniform noise of a name, `(size,)`, below 1."""
        return self.world.seeds.numpy("noise", name, self.start).uniform(size=self.size)

    def counts(self, name: str, rate: np.ndarray) -> np.ndarray:
        """Return Poisson counts as floats."""
        return self.world.seeds.numpy("noise", name, self.start).poisson(rate).astype(np.float64)

    @cached_property
    def user(self) -> np.ndarray:
        """The user of each row."""
        return (self.ads.users * self.uniform("user") ** 2).astype(np.int64)

    @cached_property
    def item(self) -> np.ndarray:
        """The item of each row."""
        return (self.ads.items * self.uniform("item") ** 3).astype(np.int64)

    @cached_property
    def time(self) -> np.ndarray:
        """The time of each click, 0 for the beginning to 1 for the end; ascending."""
        if self.start < 0:
            return self.uniform("time")
        return (self.start + np.arange(self.size) + self.uniform("time")) / self.ads.rows

    @cached_property
    def intent(self) -> np.ndarray:
        """What the publisher can see of a click's intent."""
        return self.normal("intent")

    @cached_property
    def engagement(self) -> np.ndarray:
        """What the advertiser can see of it, once the user has arrived."""
        return self.normal("engagement")

    @cached_property
    def promo(self) -> np.ndarray:
        """Whether the item was on promotion, a fifth of rows."""
        return (self.uniform("promo") < 0.2).astype(np.float64)

    @cached_property
    def exposed(self) -> np.ndarray:
        """Whether the user was in the campaign's exposed group, nine in ten."""
        return (self.uniform("exposed") < 0.9).astype(np.float64)

    @cached_property
    def fit(self) -> np.ndarray:
        """How interests and topics fit, of mean 0 and variance 1."""
        return (self.world.interests[self.user] * self.world.topics[self.item]).sum(axis=1) / np.sqrt(INTERESTS)

    @cached_property
    def p_ctr(self) -> np.ndarray:
        """The true probability that this user, shown this item, clicks."""
        return _sigmoid(-4 + 0.7 * self.fit + 0.5 * self.intent)

    @cached_property
    def impressions(self) -> np.ndarray:
        """How often the item was shown to the user until this click, the last time included: 1 or more."""
        shown = np.floor(np.log1p(-self.uniform("impressions")) / np.log1p(-self.p_ctr))
        return 1 + shown

    @cached_property
    def log_odds(self) -> np.ndarray:
        """The true log-odds of a purchase."""
        ads, signal = self.ads, self.ads.signal
        theirs = (self.world.propensity[self.user] + self.intent) / np.sqrt(2)
        own = (self.world.quality[self.item] + self.engagement) / np.sqrt(2)
        lifts = ads.promo_lift * self.promo + ads.exposure_lift * self.exposed + ads.drift * (self.time - 0.5)
        return self.base + signal.publisher * theirs + signal.advertiser * own + signal.joint * self.fit + lifts

    @cached_property
    def converted(self) -> np.ndarray:
        """Whether the click led to a purchase."""
        return self.uniform("converted") < _sigmoid(self.log_odds)

    @cached_property
    def p_refund(self) -> np.ndarray:
        """The true probability that a purchase is given back: likelier for an item of low quality."""
        odds = np.log(self.ads.refund_rate / (1 - self.ads.refund_rate))
        return _sigmoid(odds - 0.5 * self.world.quality[self.item])

    @cached_property
    def refunded(self) -> np.ndarray:
        """Whether there was a purchase and it was given back."""
        return self.converted & (self.uniform("refunded") < self.p_refund)

    @cached_property
    def click_ts(self) -> np.ndarray:
        """Seconds since 1970."""
        return np.floor(START_S + self.time * DAYS * DAY_S)

    @cached_property
    def conv_ts(self) -> np.ndarray:
        """When the purchase came, within a day of the click; NaN where none did."""
        delay = np.minimum(-np.log1p(-self.uniform("conv_ts")) * DAY_S / 8, DAY_S - 1)
        return np.where(self.converted, np.floor(self.click_ts + delay), np.nan)

    @cached_property
    def refund_ts(self) -> np.ndarray:
        """When the refund came, up to two weeks after the purchase; NaN where none did."""
        delay = 1 + np.floor(self.uniform("refund_ts") * 14 * DAY_S)
        return np.where(self.refunded, self.conv_ts + delay, np.nan)


def _sigmoid(values: np.ndarray) -> np.ndarray:
    return cast(np.ndarray, 1 / (1 + np.exp(-values)))


def _segment(block: Block) -> np.ndarray:
    seen = block.world.propensity[block.user] + 0.5 * block.normal("segment")
    return _ids("s", np.clip(np.floor(seen * 4) + 10, 0, 19))


def _ids(letter: str, values: np.ndarray) -> np.ndarray:
    return (letter + pd.Series(values.astype(np.int64)).astype("str")).to_numpy(object)


COLUMNS: Mapping[str, Callable[[Block], np.ndarray]] = {
    KEY: lambda block: _ids("r", block.start + np.arange(block.size)),
    "user_id": lambda block: _ids("u", block.user),
    "segment": _segment,
    "device": lambda block: _ids("d", block.uniform("device") ** 2 * 6),
    "placement": lambda block: _ids("p", np.clip(np.floor(block.intent + block.normal("placement")) + 4, 0, 7)),
    "hour": lambda block: _ids("h", (block.click_ts // 3600) % 24),
    "dwell_s": lambda block: np.exp(3 + 0.5 * block.intent + 0.4 * block.normal("dwell_s")),
    "pages": lambda block: block.counts("pages", np.exp(0.5 + 0.4 * block.intent)),
    "clicks_7d": lambda block: block.counts("clicks_7d", np.exp(1 + 0.5 * block.world.propensity[block.user])),
    "item_id": lambda block: _ids("i", block.item),
    "category": lambda block: _ids("c", block.world.category[block.item]),
    "shop": lambda block: _ids("o", block.world.shop[block.item]),
    "bid": lambda block: np.exp(0.3 * block.world.quality[block.item] + 0.3 * block.normal("bid")),
    "promo": lambda block: block.promo,
    "exposed": lambda block: block.exposed,
    "price": lambda block: block.world.price[block.item] * (1 - 0.2 * block.promo),
    "rating": lambda block: 3.5 + 0.5 * block.world.quality[block.item] + 0.2 * block.normal("rating"),
    "visits": lambda block: block.counts("visits", np.exp(0.3 + 0.5 * block.engagement)),
    "cart_adds": lambda block: block.counts("cart_adds", np.exp(-0.5 + 0.7 * block.engagement)),
    "click_ts": lambda block: block.click_ts,
    "conv_ts": lambda block: block.conv_ts,
    "refund_ts": lambda block: block.refund_ts,
    "impressions": lambda block: block.impressions,
    "p_ctr": lambda block: block.p_ctr,
    "p_cvr": lambda block: _sigmoid(block.log_odds),
    "p_refund": lambda block: block.p_refund,
    "converted": lambda block: block.converted.astype(np.int64),
    "refunded": lambda block: block.refunded.astype(np.int64),
}
