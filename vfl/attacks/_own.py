"""What an adversary computes from its own holdings: embeddings of all its rows, and its columns as numbers."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from vfl.errors import ThreatError
from vfl.transcript import AdversaryView, Holding
from vfl.types import Batch

WIDEST = 100


def embeddings(view: AdversaryView) -> Tensor:
    """Return the trained embeddings of every aligned row by handle, `(n, width)`; colluding parties' side by side.

    Raises `ThreatError` where the adversary has no network.
    """
    return _embedded([(holding.bottom, holding.batch) for holding in view.own.values() if holding.schema.columns])


def fresh_embeddings(view: AdversaryView) -> Tensor:
    """Return what the same networks make of the same rows before any training, at random weights of the attack's."""
    return _embedded([(holding.fresh, holding.batch) for holding in view.own.values() if holding.schema.columns])


def without_training(view: AdversaryView) -> dict[str, Tensor]:
    """Return what a control has in place of trained embeddings: the `random_bottom`, where known, and `own_columns`."""
    known = all(holding.fresh is not None for holding in view.own.values() if holding.schema.columns)
    return {**({"random_bottom": fresh_embeddings(view)} if known else {}), "own_columns": columns(view)}


def columns(view: AdversaryView) -> Tensor:
    """Return the adversary's own columns of every aligned row by handle, as `design` writes them."""
    return torch.cat([design(holding) for holding in view.own.values()], dim=1)


def design(holding: Holding) -> Tensor:
    """Return numeric columns and one-hot categorical ones, `(n, p + sum of sizes)`.

    Ids of a column with more than 100 of them are folded modulo 100.
    """
    batch, sizes = holding.batch, holding.schema.sizes
    hot = [
        functional.one_hot(batch.categorical[:, place] % WIDEST, min(size, WIDEST)).float()
        for place, size in enumerate(sizes)
    ]
    return torch.cat([batch.numeric, *hot], dim=1)


def _embedded(pairs: list[tuple[nn.Module | None, Batch]]) -> Tensor:
    if not pairs or any(module is None for module, _ in pairs):
        raise ThreatError("got an adversary without a network of its own, allowed one with columns", key="threat")
    with torch.no_grad():
        return torch.cat([cast(nn.Module, module)(batch) for module, batch in pairs], dim=1).float()
