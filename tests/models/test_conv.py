"""The convolutional bottom sees a picture, whatever the order of its columns."""

from __future__ import annotations

import pytest
import torch

from vfl.data.images import cut_pixels, pixel_names
from vfl.errors import ConfigError
from vfl.registry import build
from vfl.seeds import Seeds
from vfl.types import Batch, Role, TableSchema


def bottom(columns):
    with Seeds(0).initialising("bottom"):
        return build("model", "conv").bottom(TableSchema(numeric=tuple(columns)), Role.PUBLISHER, 5)


def batch(values):
    rows = len(values)
    return Batch(torch.arange(rows), values, torch.empty((rows, 0), dtype=torch.int64))


@pytest.mark.parametrize("party", ["publisher", "advertiser"])
def test_columns_in_another_order_give_the_same_embedding(party):
    columns = cut_pixels(pixel_names(8, 8, 3), 8, 8, "halves")[party]
    values = torch.randn(4, len(columns), generator=torch.Generator().manual_seed(0))
    shuffled = torch.randperm(len(columns), generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(
        bottom(columns)(batch(values)), bottom([columns[i] for i in shuffled])(batch(values[:, shuffled]))
    )


def test_pixels_stand_where_their_names_say():
    columns = pixel_names(4, 6, 2)
    found = bottom(columns)
    values = torch.tensor([[int(r) * 100 + int(c) * 10 + int(k) for _, r, c, k in (n.split("_") for n in columns)]])
    picture = values[:, found.places].unflatten(1, found.shape)
    assert picture.shape == (1, 2, 4, 6)
    assert picture[0, 1, 3, 5] == 351


def test_a_row_depends_on_itself_alone_and_has_the_width_asked_for():
    columns = pixel_names(28, 14)
    values = torch.randn(6, len(columns), generator=torch.Generator().manual_seed(0))
    whole = bottom(columns)(batch(values))
    assert whole.shape == (6, 5)
    torch.testing.assert_close(whole[2:3], bottom(columns)(batch(values[2:3])))


@pytest.mark.parametrize("columns", [("age",), ("px_0_0", "px_0_1", "px_1_0"), ("px_0_0", "px_0_2")])
def test_columns_that_are_no_rectangle_are_refused(columns):
    with pytest.raises(ConfigError, match="use mlp for this party"):
        bottom(columns)


def test_it_is_no_top():
    with pytest.raises(ConfigError, match="bottom only"):
        build("model", "conv").top(5, 2)
