"""Embedding tables drawn anew before a network passes over the same rows again."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn
from torch.optim import Optimizer

from vfl.methods import Parts
from vfl.seeds import Seeds


def renew(parts: Parts, seeds: Seeds, pass_: tuple[str, int]) -> int:
    """Draw every embedding table anew for a pass over the rows, forget what optimizers know of it, and count tables.

    `pass_` is the phase and the epoch, which name the stream. Other weights stay as they are.

    Reference: Z. Liu, Z. Fan, J. Liang, D. Kong, H. Li, Multi-Epoch Learning for Deep Click-Through Rate Prediction
    Models, 2023, https://arxiv.org/abs/2305.19531
    """
    tables = dict(_tables(parts))
    for name, table in tables.items():
        with seeds.initialising("renewed", *pass_, name):
            table.reset_parameters()
    for part in parts.values():
        if isinstance(part, Optimizer):
            for table in tables.values():
                part.state.pop(table.weight, None)
    return len(tables)


def _tables(parts: Parts) -> Iterator[tuple[str, nn.Embedding]]:
    for key, part in parts.items():
        if isinstance(part, nn.Module):
            for name, module in part.named_modules():
                if isinstance(module, nn.Embedding):
                    yield f"{key}.{name}", module
