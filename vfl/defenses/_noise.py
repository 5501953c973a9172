"""Draws and bounds that several defenses share."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def wide(dtype: torch.dtype) -> torch.dtype:
    """Return the type that noise on a body of `dtype` is drawn in: never below float32."""
    return torch.promote_types(dtype, torch.float32)


def laplace(shape: Sequence[int], generator: torch.Generator, dtype: torch.dtype = torch.float64) -> Tensor:
    """Return Laplace noise of scale 1, as the difference of two exponential draws: always finite."""
    first = torch.empty(tuple(shape), dtype=dtype).exponential_(generator=generator)
    return first - torch.empty(tuple(shape), dtype=dtype).exponential_(generator=generator)


def clip_rows(body: Tensor, limit: float, order: int = 2) -> Tensor:
    """Return `(rows, dim)` float64 vectors, those longer than `limit` in the L`order` norm scaled down to it."""
    exact = body.double()
    lengths = exact.norm(p=order, dim=1, keepdim=True)
    return exact * (limit / lengths.clamp(min=torch.finfo(torch.float64).tiny)).clamp(max=1.0)


def longest(body: Tensor) -> Tensor:
    """Return the length of the longest of `(rows, dim)` rows, `()` float64, 0 where there is none."""
    return body.double().norm(dim=1).max() if body.numel() else body.new_zeros((), dtype=torch.float64)


def check_from_zero(**options: float) -> None:
    """Raise `ValueError` for the first option that is not a finite number from 0."""
    for name, value in options.items():
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"{name}: got {value}, allowed any finite number from 0; 0 turns it off")


def check_positive(**options: float) -> None:
    """Raise `ValueError` for the first option that is not a finite number above 0."""
    for name, value in options.items():
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name}: got {value}, allowed any finite number above 0; raise it")


def check_between(low: float, high: float, **options: float) -> None:
    """Raise `ValueError` for the first option outside `low` to `high`, both allowed."""
    for name, value in options.items():
        if not low <= value <= high:
            raise ValueError(f"{name}: got {value}, allowed from {low:g} to {high:g}; move it inside")
