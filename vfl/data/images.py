"""Images as columns, one a pixel and channel, named by where it stands: a party can hold a part of a picture."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd

from vfl.types import ADVERTISER, PartyId

Parts = Literal["halves", "quadrants"]


def pixel_names(height: int, width: int, channels: int = 1) -> tuple[str, ...]:
    """Return `px_ROW_COLUMN`, with `_CHANNEL` behind it for more than one, row by row from the top left."""
    places = [(row, column) for row in range(height) for column in range(width)]
    if channels == 1:
        return tuple(f"px_{row}_{column}" for row, column in places)
    return tuple(f"px_{row}_{column}_{channel}" for row, column in places for channel in range(channels))


def cut_pixels(names: Sequence[str], height: int, width: int, parts: Parts) -> dict[PartyId, tuple[str, ...]]:
    """Return who holds which pixels.

    `halves`: the publisher the left one, the advertiser the right one. `quadrants`: publishers 1 to 3 the upper left,
    the upper right and the lower left quarter, the advertiser the lower right one.
    """
    owners = ("publisher", ADVERTISER)
    if parts == "quadrants":
        owners = ("publisher_1", "publisher_2", "publisher_3", ADVERTISER)
    held: dict[PartyId, list[str]] = {owner: [] for owner in owners}
    for name in names:
        row, column = (int(number) for number in re.findall(r"\d+", name)[:2])
        right, low = column >= width // 2, row >= height // 2
        held[owners[int(right) + 2 * int(low) * (parts == "quadrants")]].append(name)
    return {owner: tuple(pixels) for owner, pixels in held.items()}


def pixel_frame(images: np.ndarray, names: Sequence[str], wanted: Sequence[str]) -> pd.DataFrame:
    """Return some pixels of `(n, ...)` images as float32 columns, in the order asked for."""
    flat = images.reshape(len(images), -1)
    places = {name: place for place, name in enumerate(names)}
    values = flat[:, [places[name] for name in wanted]].astype(np.float32)
    return pd.DataFrame(values, columns=list(wanted), index=range(len(flat)))
