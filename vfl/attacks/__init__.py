"""Attacks: one file each. An observer with an opinion: a view in, a guess out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from vfl.transcript import AdversaryView
from vfl.types import Kind


@dataclass(frozen=True, slots=True)
class Needs:
    """What an attack must be granted: envelope kinds it reads and labelled rows it knows; and whether it is binary."""

    received: frozenset[Kind] = frozenset()
    sent: frozenset[Kind] = frozenset()
    labelled_rows: int = 0
    binary_only: bool = False


@dataclass(frozen=True, slots=True)
class Guess:
    """An attack's opinion, one entry for each row it scored at each step.

    `steps` and `rows` are `(n,)` int64; `scores` is `(n,)` (greater means class 1 is likelier) or `(n, classes)`.
    """

    target: Literal["labels"]
    steps: Tensor
    rows: Tensor
    scores: Tensor


class Attack(Protocol):
    """A frozen dataclass of options. `infer` sees the view and its own random stream, and nothing else."""

    @property
    def needs(self) -> Needs:
        """What it must be granted; a run whose threat model grants less is refused before it starts."""
        ...

    def infer(self, view: AdversaryView, rng: torch.Generator) -> Guess:
        """Return the attack's guess."""
        ...
