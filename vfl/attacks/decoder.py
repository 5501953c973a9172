"""Decoder inversion: learn to turn embeddings back into features from rows where both are known."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from vfl.attacks import Guess, Needs
from vfl.attacks._heads import regress
from vfl.attacks._own import columns
from vfl.attacks._victim import known_values, seen_of, victim
from vfl.errors import ThreatError
from vfl.transcript import AdversaryView
from vfl.types import Kind


@dataclass(frozen=True)
class Decoder:
    """Guesses a publisher's numeric columns by a network from its embeddings, fitted on `known_rows` known rows.

    The attacker is the advertiser; it knows no network of the publisher. The network has one hidden layer of 64 and is
    trained for `steps` steps. The control `own_columns` is the same network on the advertiser's own columns: what that
    reaches is correlation between the parties' tables, not leakage. Known rows are not scored.

    Reference: Z. He, T. Zhang, R. B. Lee, Model Inversion Attacks Against Collaborative Inference, ACSAC 2019,
    https://doi.org/10.1145/3359789.3359824 (its inverse network, for pictures; tables and the control are ours)
    """

    known_rows: int = 500
    steps: int = 2000

    def __post_init__(self) -> None:
        if self.known_rows < 2:
            raise ValueError(f"known_rows: got {self.known_rows}, allowed from 2; a few hundred train a decoder")
        if self.steps < 1:
            raise ValueError(f"steps: got {self.steps}, allowed from 1; a few thousand suffice")

    @property
    def needs(self) -> Needs:
        """Received embeddings, known rows, and the advertiser's own columns for the control."""
        return Needs(received=frozenset({Kind.EMBEDDING}), known_rows=self.known_rows, own_features=True)

    def infer(self, view: AdversaryView, rng: torch.Generator) -> Guess:
        """Return `(n, columns)` numeric values; raises `ThreatError` where the publisher has no numeric column."""
        party, holding = victim(view)
        names = holding.schema.numeric
        if not names:
            raise ThreatError(f"{party} has no numeric column; use attribute_inference", key="attack")
        last, known, others = seen_of(view, party)
        values = known_values(holding.batch.numeric, holding, last.rows[known])
        scores = regress(last.body.float(), known, values, rng, steps=self.steps)[others]
        own = columns(view)[last.rows]
        controls = {"own_columns": regress(own, known, values, rng, steps=self.steps)[others]} if own.shape[1] else {}
        rows = last.rows[others]
        return Guess("features", torch.zeros_like(rows), rows, scores, party, names, controls)
