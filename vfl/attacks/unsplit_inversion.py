"""UnSplit's inversion: inputs and a clone of the bottom are fitted together, knowing the architecture alone."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch

from vfl.attacks import Guess, Needs
from vfl.attacks._victim import inverting, victim
from vfl.errors import ThreatError
from vfl.transcript import AdversaryView
from vfl.types import Batch, Kind


@dataclass(frozen=True)
class UnsplitInversion:
    """Descends on a publisher's numeric columns and on a fresh copy of its bottom in turn, until they give what came.

    The attacker is the advertiser; it knows the bottom's architecture and the publisher's columns by name, no data and
    no weights. For `rounds` rounds it takes `inner` steps on the inputs (from 0, the mean; `prior_weight` |x|^2 beside
    the misfit) and `inner` on the clone. The `rows` latest embeddings are inverted; ids of categorical columns are
    drawn at random and stay.

    Reference: E. Erdogan, A. Kupcu, A. E. Cicek, UnSplit: Data-Oblivious Model Inversion, Model Stealing, and Label
    Inference Attacks Against Split Learning, WPES at CCS 2022, https://arxiv.org/abs/2108.09033

    A dense first layer hides its inputs: (W U^-1, U x) fits as well as (W, x) for any invertible U (A. Semenov et al.,
    Just a Simple Transformation is Enough for Data Protection in Vertical Federated Learning, 2024,
    https://arxiv.org/abs/2412.11689). On tables this attack is expected to fail, and a good result would be an error.
    One known row is asked for, since the grant of a table's columns and architecture is that of a row; it is not used.
    """

    rows: int = 200
    rounds: int = 60
    inner: int = 10
    prior_weight: float = 1e-3

    def __post_init__(self) -> None:
        inverting(self.prior_weight, rows=self.rows, rounds=self.rounds, inner=self.inner)

    @property
    def needs(self) -> Needs:
        """Received embeddings, and the architecture and columns that come with one known row."""
        return Needs(received=frozenset({Kind.EMBEDDING}), known_rows=1)

    def infer(self, view: AdversaryView, rng: torch.Generator) -> Guess:
        """Return `(n, columns)` numeric values; raises `ThreatError` where the publisher has no numeric column."""
        party, holding = victim(view)
        if not holding.schema.numeric or holding.fresh is None:
            raise ThreatError(f"{party} has no numeric column", key="attack")
        last = view.incoming(party).last()
        unknown = (~torch.isin(last.rows, holding.batch.rows)).nonzero()[:, 0]
        chosen = unknown[last.steps[unknown].argsort(stable=True)[-self.rows :]].sort().values
        wanted, rows = last.body[chosen].float(), last.rows[chosen]
        columns = [torch.randint(0, size, (len(rows),), generator=rng) for size in holding.schema.sizes]
        ids = torch.stack(columns, dim=1) if columns else torch.zeros(len(rows), 0, dtype=torch.int64)
        numeric = torch.zeros(len(rows), len(holding.schema.numeric), requires_grad=True)
        clone = copy.deepcopy(holding.fresh).requires_grad_()
        turns = [torch.optim.Adam([numeric], lr=0.05), torch.optim.Adam(clone.parameters(), lr=3e-3)]
        for step in range(2 * self.inner * self.rounds):
            misfit = (clone(Batch(rows, numeric, ids)) - wanted).square().mean()
            loss = misfit + self.prior_weight * numeric.square().mean()
            turn = turns[step // self.inner % 2]
            clone.zero_grad()
            numeric.grad = None
            loss.backward()
            turn.step()
        return Guess("features", torch.zeros_like(rows), rows, numeric.detach(), party, holding.schema.numeric)
