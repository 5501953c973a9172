"""Defenses: one file each. Pure functions on what a party is about to send."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

import torch
from torch import Tensor

from vfl.types import Kind, Role

State = dict[str, Tensor]
"""What a defense carries from step to step: tensors by name, so that a checkpoint can hold it."""


@dataclass(frozen=True, slots=True)
class SendContext:
    """What a defense may know when it acts: its sender's own knowledge and nothing else.

    `generator` is this defense's own stream at this step. `labels` are the sender's `(rows,)` int64 labels of the
    rows in the body, `None` at a publisher. `classes` is the number of label classes. `loss_reduction` says whether
    per-sample gradients carry a factor 1/rows (`mean`) or not (`sum`).
    """

    step: int
    generator: torch.Generator
    labels: Tensor | None
    classes: int
    loss_reduction: Literal["mean", "sum"] = "mean"


class Defense(Protocol):
    """A frozen dataclass of options with a pure `apply`. The body it gets must not be changed in place.

    `kinds` are the envelope kinds it acts on (others pass untouched), `side` the role it is mounted at, `binary_only`
    whether it is undefined for more than two classes.
    """

    kinds: ClassVar[frozenset[Kind]]
    side: ClassVar[Role]
    binary_only: ClassVar[bool]

    def init(self) -> State:
        """Return the state before the first step."""
        ...

    def apply(self, body: Tensor, state: State, ctx: SendContext) -> tuple[Tensor, State]:
        """Return what is sent in place of the `(rows, dim)` body, of the same shape and dtype, and the next state."""
        ...
