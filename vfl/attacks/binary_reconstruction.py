"""Binary feature reconstruction: yes-or-no columns are found in the space that embeddings of a linear bottom span."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vfl.attacks import Guess, Needs
from vfl.attacks._victim import known_values, victim
from vfl.transcript import AdversaryView
from vfl.types import Kind

DEEPEST = 16
AGREES = 0.95


@dataclass(frozen=True)
class BinaryReconstruction:
    """Finds the 0-1 vectors in the column space of a publisher's embeddings, and names them by a few known rows.

    The attacker is the advertiser and knows no network. If Z = X W + b with W of full rank, each binary column of X is
    Z times some vector, plus a constant: it is fixed by its values on as many well-chosen rows as Z has rank r, so all
    2^r candidates are tried and those kept whose other values are within `tolerance` of 0 or 1. A found vector stands
    for the column of two values that it (or its complement) agrees with on at least 95 % of the `known_rows` known
    rows; a column that none stands for is guessed by its mean of known rows. Up to `rows` rows of the latest
    embeddings are used. Where r is above `deepest` the search is not tried.

    Reference: P. Ye, Z. Jiang, W. Wang, B. Li, B. Li, Feature Reconstruction Attacks and Countermeasures of DNN
    Training in Vertical Federated Learning, IEEE TDSC 2025, https://arxiv.org/abs/2210.06771

    Without naming, the paper's attacker holds unlabelled columns; rows are chosen here by the pivots of an LU
    factorisation. A bottom that is not linear in the column hides it: expect nothing of `bottom: mlp`.
    """

    known_rows: int = 50
    rows: int = 500
    deepest: int = 12
    tolerance: float = 0.05

    def __post_init__(self) -> None:
        if self.known_rows < 2 or self.rows < 2:
            raise ValueError(f"known_rows: got {self.known_rows}, allowed from 2, and rows from 2; fifty name columns")
        if not 1 <= self.deepest <= DEEPEST:
            raise ValueError(f"deepest: got {self.deepest}, allowed from 1 to {DEEPEST}: it tries 2 to this power")
        if not 0 < self.tolerance < 0.5:
            raise ValueError(f"tolerance: got {self.tolerance}, allowed between 0 and 0.5; 0.05 suits float32")

    @property
    def needs(self) -> Needs:
        """Received embeddings and known rows."""
        return Needs(received=frozenset({Kind.EMBEDDING}), known_rows=self.known_rows)

    def infer(self, view: AdversaryView, rng: torch.Generator) -> Guess:
        """Return `(n, columns)` numeric values of rows that were not known; draws nothing from `rng`."""
        del rng
        party, holding = victim(view)
        last = view.incoming(party).last()
        told = torch.isin(last.rows, holding.batch.rows)
        late = last.steps.argsort(stable=True)[-self.rows :]
        used = torch.zeros_like(told)
        used[late] = True
        used |= told
        rows, known = last.rows[used], told[used]
        found = hidden_bits(last.body[used].double(), self.deepest, self.tolerance)
        values = known_values(holding.batch.numeric, holding, rows[known])
        columns = [_named(found, column, known) for column in values.T]
        guessed = torch.stack(columns, dim=1) if columns else torch.zeros(len(rows), 0)
        others = ~known
        return Guess(
            "features", torch.zeros_like(rows[others]), rows[others], guessed[others], party, holding.schema.numeric
        )


def hidden_bits(z: Tensor, deepest: int, tolerance: float) -> Tensor:
    """Return the `(n, found)` vectors of 0 and 1, none constant, that are affine in `(n, width)` embeddings."""
    whole = torch.cat([z, torch.ones(len(z), 1, dtype=z.dtype)], dim=1)
    left, spread, _ = torch.linalg.svd(whole, full_matrices=False)
    basis = left[:, spread > 1e-5 * spread[0]]
    rank = basis.shape[1]
    if rank > min(deepest + 1, len(z)):  # the constant is one direction more
        return torch.zeros(len(z), 0, dtype=z.dtype)
    pivots = torch.linalg.lu(basis)[0][:, :rank].argmax(dim=0)
    codes = torch.arange(2 ** (rank - 1))  # the last bit stays 0: the rest are complements
    bits = (codes[:, None] >> torch.arange(rank) & 1).to(z.dtype)
    columns = basis @ torch.linalg.solve(basis[pivots], bits.T)
    near = (columns - columns.round()).abs().amax(dim=0) < tolerance
    within = (columns.amin(dim=0) > -0.5) & (columns.amax(dim=0) < 1.5)
    found = columns[:, near & within].round()
    return found[:, found.std(dim=0) > 0]


def _named(found: Tensor, values: Tensor, known: Tensor) -> Tensor:
    """Return one column for all rows: the vector that agrees with its known values, else their mean."""
    levels = values.unique()
    mean = values.mean().expand(len(known)).clone()
    if len(levels) != 2 or not found.shape[1]:
        return mean
    agrees = (found[known] == (values == levels[1])[:, None]).double().mean(dim=0)
    best = int((agrees - 0.5).abs().argmax())
    if not (agrees[best] >= AGREES or agrees[best] <= 1 - AGREES):
        return mean
    high = found[:, best] > 0.5 if agrees[best] > 0.5 else found[:, best] < 0.5
    return torch.where(high, levels[1], levels[0])
