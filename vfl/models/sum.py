"""A top without weights of its own but a bias: the parties' embeddings are their logits, and are added."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NoReturn

import torch
from torch import Tensor, nn

from vfl.errors import ConfigError
from vfl.models.tabular import logits
from vfl.types import Role, TableSchema


@dataclass(frozen=True, slots=True)
class Sum:
    """Adds the parties' embeddings into logits; with linear bottoms this is vertical logistic regression.

    `embedding_dim` must be the number of logits at every party: 1 for two classes, the number of classes for more.
    For two classes the gradient at the cut is `p_i - y_i` itself: its sign is the label, and no norm hides it.

    Reference: Stephen Hardy, Wilko Henecka, Hamish Ivey-Law, Richard Nock, Giorgio Patrini, Guillaume Smith, Brian
    Thorne, Private federated learning on vertically partitioned data via entity resolution and additively homomorphic
    encryption, 2017, https://arxiv.org/abs/1711.10677 (the model only: nothing is encrypted here)
    """

    def bottom(self, schema: TableSchema, role: Role, width: int) -> NoReturn:
        """Raise `ConfigError`: there is nothing to add up within one party."""
        raise ConfigError("got 'sum', allowed as a top only; use bottom: linear", key="model.bottom")

    def top(self, width: int, classes: int) -> nn.Module:
        """Return a module `(rows, width) -> (rows, 1)` logits for two classes, `(rows, classes)` for more.

        Raises `ConfigError` where `width`, all parties' embeddings end to end, is no multiple of the logits.
        """
        if width % logits(classes):
            message = f"got {width} in all, allowed {logits(classes)} a party under top: sum; set it for each party"
            raise ConfigError(message, key="model.embedding_dim")
        return AddedLogits(logits(classes))


class AddedLogits(nn.Module):
    """Adds the slices of `(rows, parties * outputs)` into `(rows, outputs)`, with one bias that starts at 0."""

    def __init__(self, outputs: int) -> None:
        """Make the `(outputs,)` bias."""
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, joined: Tensor) -> Tensor:
        """Return `(rows, outputs)` logits."""
        return joined.unflatten(1, (-1, self.bias.numel())).sum(dim=1) + self.bias
