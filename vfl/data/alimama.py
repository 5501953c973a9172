"""Alimama sponsored search: purchases after a click, the IJCAI-18 contest's table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from vfl.data import Described
from vfl.data.layout import Place, TableLayout
from vfl.data.tables import column, parsed

USER_IDS = ("user_id", "user_gender_id", "user_occupation_id")
USER_LEVELS = ("user_age_level", "user_star_level", "context_page_id")
ITEM_IDS = ("item_id", "item_category", "item_brand_id", "item_city_id", "shop_id")
ITEM_LEVELS = (
    "item_price_level",
    "item_sales_level",
    "item_collected_level",
    "item_pv_level",
    "shop_review_num_level",
    "shop_review_positive_rate",
    "shop_star_level",
    "shop_score_service",
    "shop_score_delivery",
    "shop_score_description",
)


def _without_unknown(frame: pd.DataFrame) -> pd.DataFrame:
    numbers = {name: parsed(column(frame, name)) for name in frame.columns if name in USER_LEVELS + ITEM_LEVELS}
    return frame.assign(**{name: values.where(values != -1) for name, values in numbers.items()})


LAYOUT = TableLayout(
    train=Place(
        ("alimama*", "ijcai_18*"),
        ("round1_ijcai_18_train_*.txt*", "train.parquet", "train.csv*"),
        "round1_ijcai_18_train_20180301.txt of https://tianchi.aliyun.com/dataset/147588",
    ),
    test=Place(("alimama*", "ijcai_18*"), ("test.parquet", "test.csv*"), "the contest's labelled test rows"),
    label="is_trade",
    numeric=USER_LEVELS + ITEM_LEVELS,
    categorical=USER_IDS + ITEM_IDS,
    split={"publisher": USER_LEVELS + USER_IDS, "advertiser": ITEM_LEVELS + ITEM_IDS},
    classes=("no purchase", "purchase"),
    times=("context_timestamp",),
    aliases={"item_category": "item_category_list"},
    derive=_without_unknown,
)


@dataclass(frozen=True, slots=True)
class Alimama:
    """Alimama sponsored search (IJCAI-18): did a click lead to a purchase; about 2 % do.

    The publisher holds the user and the page of results, the advertiser the item, the shop and the label: the nearest
    public stand-in for post-click conversions between two companies, and a cut of this project. Levels and scores are
    numeric, -1 there is a missing value; ids are categorical. The contest's own file brings `context_timestamp`, for
    a holdout in time; a test file beside it, where it is labelled, brings official test rows.

    Licence: the contest's own terms, for research.

    Reference: Alimama, International Advertising Algorithm Competition, IJCAI 2018,
    https://tianchi.aliyun.com/dataset/147588
    """

    def describe(self, root: Path | None) -> Described:
        """Return the table's shape."""
        return LAYOUT.describe(root)

    def read(self, columns: Sequence[str], root: Path | None) -> pd.DataFrame:
        """Return these columns for all rows, training rows first."""
        return LAYOUT.read(columns, root)

    def batches(self, columns: Sequence[str], root: Path | None) -> Iterator[pd.DataFrame]:
        """Yield these columns some rows at a time."""
        return LAYOUT.batches(columns, root)

    def labels(self, root: Path | None) -> np.ndarray:
        """Return `(rows,)` int64: 1 where the click led to a purchase."""
        return LAYOUT.labels(root)

    def test_rows(self, root: Path | None) -> np.ndarray:
        """Return `(rows,)` bool: the rows of the test file."""
        return LAYOUT.test_rows(root)
