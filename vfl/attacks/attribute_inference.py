"""Attribute inference: learn one sensitive column of a publisher from its embeddings."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from vfl.attacks import Guess, Needs
from vfl.attacks._heads import classify
from vfl.attacks._own import columns
from vfl.attacks._victim import known_values, seen_of, victim
from vfl.errors import ThreatError
from vfl.transcript import AdversaryView
from vfl.types import Kind


@dataclass(frozen=True)
class AttributeInference:
    """Guesses one categorical `column` of a publisher from its embeddings, by a linear head on `known_rows` known rows.

    The attacker is the advertiser. An empty `column` stands for the publisher's first categorical one. The control
    `own_columns` is the same head on the advertiser's own columns: only what the embedding adds to that is leakage of
    the wire. Known rows are not scored.

    Reference: C. Song, V. Shmatikov, Overlearning Reveals Sensitive Attributes, ICLR 2020,
    https://arxiv.org/abs/1905.11742 (the control is ours)
    """

    column: str = ""
    known_rows: int = 500
    steps: int = 600

    def __post_init__(self) -> None:
        if self.known_rows < 2:
            raise ValueError(f"known_rows: got {self.known_rows}, allowed from 2; a few hundred train a head")
        if self.steps < 1:
            raise ValueError(f"steps: got {self.steps}, allowed from 1; a few hundred suffice")

    @property
    def needs(self) -> Needs:
        """Received embeddings, known rows, and the advertiser's own columns for the control."""
        return Needs(received=frozenset({Kind.EMBEDDING}), known_rows=self.known_rows, own_features=True)

    def infer(self, view: AdversaryView, rng: torch.Generator) -> Guess:
        """Return `(n, ids)` log probabilities; raises `ThreatError` where the publisher has no such column."""
        party, holding = victim(view)
        names = holding.schema.categorical
        column = self.column or (names[0] if names else "")
        if column not in names:
            message = f"got column {self.column!r}, allowed a categorical column of {party} ({', '.join(names)})"
            raise ThreatError(f"{message}; name one of these", key="attack")
        place = names.index(column)
        last, known, others = seen_of(view, party)
        ids = known_values(holding.batch.categorical[:, place], holding, last.rows[known])
        size, own = holding.schema.sizes[place], columns(view)[last.rows]
        scores = classify(last.body.float(), known, ids, size, rng, steps=self.steps)[others]
        control = classify(own, known, ids, size, rng, steps=self.steps)[others]
        rows = last.rows[others]
        controls = {"own_columns": control}
        return Guess("attribute", torch.zeros_like(rows), rows, scores, party, (column,), controls)
