"""Structural similarity of guessed pictures with true ones, where the columns of a table are pixels."""

from __future__ import annotations

import re
from collections.abc import Sequence

from torch import Tensor
from torch.nn.functional import avg_pool2d

PIXEL = re.compile(r"px_(\d+)_(\d+)(?:_(\d+))?")
WINDOW = 7
LUMINANCE, CONTRAST = 0.01, 0.03
"""The two constants of the paper, as shares of the range of values."""


def pictures(values: Tensor, columns: Sequence[str]) -> Tensor | None:
    """Return `(n, channels, height, width)` of `(n, columns)`; `None` unless they are pixels of a full rectangle."""
    found = [PIXEL.fullmatch(name) for name in columns]
    places = [tuple(int(part or 0) for part in match.groups()) for match in found if match]
    if not places or len(places) < len(columns) or len(set(places)) < len(places):
        return None
    axes = [sorted({place[axis] for place in places}) for axis in (2, 0, 1)]
    shape = [len(axis) for axis in axes]
    if shape[0] * shape[1] * shape[2] != len(places):
        return None
    order = sorted(range(len(places)), key=lambda at: (places[at][2], places[at][0], places[at][1]))
    return values[:, order].double().reshape(-1, *shape)


def ssim(found: Tensor, truth: Tensor) -> float | None:
    """Return the mean structural similarity of `(n, channels, height, width)` pictures, 1 where they are the same.

    Over every square window of 7 (or the picture's shorter side, where that is less), each weighed alike, with the
    range of the true values; `None` where these do not vary.

    Reference: Z. Wang, A. C. Bovik, H. R. Sheikh, E. P. Simoncelli, Image Quality Assessment: From Error Visibility to
    Structural Similarity, IEEE Transactions on Image Processing 2004, https://doi.org/10.1109/TIP.2003.819861

    The paper weighs a window of 11 by a Gaussian; pictures here are too small for it.
    """
    side, span = min(WINDOW, *truth.shape[2:]), float(truth.max() - truth.min())
    if span == 0:
        return None
    mean, other = avg_pool2d(found, side, 1), avg_pool2d(truth, side, 1)
    variance = avg_pool2d(found.square(), side, 1) - mean.square()
    wanted = avg_pool2d(truth.square(), side, 1) - other.square()
    shared = avg_pool2d(found * truth, side, 1) - mean * other
    small, least = (LUMINANCE * span) ** 2, (CONTRAST * span) ** 2
    likeness = (2 * mean * other + small) * (2 * shared + least)
    return float((likeness / (mean.square() + other.square() + small) / (variance + wanted + least)).mean())


def similarity(found: Tensor, truth: Tensor, columns: Sequence[str]) -> dict[str, float | None]:
    """Return `ssim` of guessed pictures and `ssim_prior`, that of the mean picture; nothing where there are none."""
    seen, true = pictures(found, columns), pictures(truth, columns)
    if seen is None or true is None:
        return {}
    return {"ssim": ssim(seen, true), "ssim_prior": ssim(true.mean(dim=0, keepdim=True).expand_as(true), true)}
