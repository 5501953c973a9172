"""A small convolutional bottom for a party that holds a part of a picture."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NoReturn

import torch
from torch import Tensor, nn

from vfl.errors import ConfigError
from vfl.models.tabular import check_widths
from vfl.types import Batch, Role, TableSchema


@dataclass(frozen=True, slots=True)
class Conv:
    """Three convolutions of 3x3 with ReLU, the first two followed by 2x2 max pooling, then one linear layer.

    A bottom only. The party's columns must be the pixels of one rectangle, called `px_ROW_COLUMN` or
    `px_ROW_COLUMN_CHANNEL`, in any order, and nothing else. `channels` are the widths of the three convolutions.
    There is no batch normalisation, so row i of the output depends on row i alone.
    """

    channels: tuple[int, int, int] = (16, 32, 32)

    def __post_init__(self) -> None:
        check_widths(channels=self.channels)

    def bottom(self, schema: TableSchema, role: Role, width: int) -> nn.Module:
        """Return a module `Batch -> (rows, width)`; raises `ConfigError` for columns that are no rectangle."""
        return PixelBottom(schema, width, self.channels)

    def top(self, width: int, classes: int) -> NoReturn:
        """Raise `ConfigError`: embeddings are no picture."""
        raise ConfigError("got 'conv', allowed as a bottom only; use top: linear or mlp", key="model.top")


class PixelBottom(nn.Module):
    """Puts a batch's pixels where they stand in the picture, `(rows, channels, height, width)`, and convolves."""

    places: Tensor

    def __init__(self, schema: TableSchema, width: int, channels: tuple[int, int, int]) -> None:
        """Draw the weights from torch's current stream."""
        super().__init__()
        shape, places = grid(schema)
        self.shape = shape
        self.register_buffer("places", places, persistent=False)
        depth, height, wide = shape
        first, second, third = channels
        self.layers = nn.Sequential(
            nn.Conv2d(depth, first, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2, ceil_mode=True),
            nn.Conv2d(first, second, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2, ceil_mode=True),
            nn.Conv2d(second, third, 3, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(third * -(-height // 4) * -(-wide // 4), width),
        )

    def forward(self, batch: Batch) -> Tensor:
        """Return the `(rows, width)` embedding."""
        return self.layers(batch.numeric[:, self.places].unflatten(1, self.shape))


def grid(schema: TableSchema) -> tuple[tuple[int, int, int], Tensor]:
    """Return channels, height and width of the pixels in a schema, and the column that each of them is, in that order.

    Raises `ConfigError` where a column is no pixel, or the pixels do not fill a rectangle.
    """
    found: list[tuple[int, int, int]] = []
    for name in schema.columns:
        match = re.fullmatch(r"px_(\d+)_(\d+)(?:_(\d+))?", name)
        if match is None or name in schema.categorical:
            message = f"got the column {name!r}, allowed px_ROW_COLUMN under bottom: conv; use mlp for this party"
            raise ConfigError(message, key="model.bottom")
        row, column, channel = (int(part or 0) for part in match.groups())
        found.append((channel, row, column))
    corners = [sorted({place[axis] for place in found}) for axis in range(3)]
    whole = [(channel, row, column) for channel in corners[0] for row in corners[1] for column in corners[2]]
    gaps = any(axis != list(range(axis[0], axis[-1] + 1)) for axis in corners if axis)
    if not found or gaps or sorted(found) != whole:
        message = f"got {len(found)} pixels that fill no rectangle, allowed a whole one; use mlp for this party"
        raise ConfigError(message, key="model.bottom")
    at = {place: column for column, place in enumerate(found)}
    shape = (len(corners[0]), len(corners[1]), len(corners[2]))
    return shape, torch.tensor([at[place] for place in whole])
