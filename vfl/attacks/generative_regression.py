"""The generative regression network: features that make the joint model answer as it did, guessed from one's own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from vfl.attacks import Guess, Needs
from vfl.attacks._heads import batches, dense
from vfl.attacks._victim import victim
from vfl.errors import ThreatError
from vfl.transcript import AdversaryView, Holding, pool
from vfl.types import Batch, Kind


@dataclass(frozen=True)
class GenerativeRegression:
    """Trains a generator of the publisher's numeric columns, so that the joint model's scores come out as they were.

    The attacker is the advertiser. It knows the publisher's network (a leak: a split model does not give it that), its
    own network and columns, and the probabilities of every evaluated row. The generator, one hidden layer of `hidden`,
    maps own columns and as many normal numbers as there are hidden columns to standardised values; it minimises the
    squared error of the scores plus `spread_weight` times what a column's variance exceeds that of a standardised one,
    over `steps` steps of 256 rows. Guesses are those at random numbers of 0. It works through the correlation of the
    two parties' columns: what has none stays near chance.

    Reference: X. Luo, Y. Wu, X. Xiao, B. C. Ooi, Feature Inference Attack on Model Predictions in Vertical Federated
    Learning, IEEE ICDE 2021, https://arxiv.org/abs/2010.10152

    The paper attacks logistic regression, networks and forests that the attacker holds whole; columns there lie between
    0 and 1, here they are standardised, and the variance is held to 1.
    """

    hidden: int = 64
    steps: int = 600
    spread_weight: float = 0.25

    def __post_init__(self) -> None:
        for name in ("hidden", "steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: got {getattr(self, name)}, allowed any whole number from 1")
        if not self.spread_weight >= 0:
            raise ValueError(f"spread_weight: got {self.spread_weight}, allowed from 0; 0.25 is the paper's")

    @property
    def needs(self) -> Needs:
        """The scores it computed, its own columns and networks, and the publisher's network."""
        return Needs(sent=frozenset({Kind.SCORE}), own_features=True, own_models=True, victim_models=True)

    def infer(self, view: AdversaryView, rng: torch.Generator) -> Guess:
        """Return `(n, columns)` numeric values; raises `ThreatError` for a publisher it cannot imitate."""
        party, holding = victim(view)
        (own,) = view.own.values()
        if len(view.hints.victims) > 1 or holding.schema.categorical or holding.bottom is None or own.top is None:
            raise ThreatError("got a run it cannot imitate, allowed one publisher of numeric columns", key="attack")
        scored = pool(view.sent, Kind.SCORE).last()
        rows, columns = scored.rows, len(holding.schema.numeric)
        seen = own.batch.numeric[rows].float()
        mine = _embedding(own, rows)
        generator = dense([seen.shape[1] + columns, self.hidden, columns], rng)
        optimizer = torch.optim.Adam(generator.parameters(), lr=3e-3)
        for places in batches(len(rows), 256, self.steps, rng):
            noise = torch.randn(len(places), columns, generator=rng)
            made = generator(torch.cat([seen[places], noise], dim=1))
            answered = _scores(own.top, holding.bottom, made, mine[places])
            excess = (made.var(dim=0, unbiased=False) - 1).clamp(min=0).sum()
            loss = (answered - scored.body[places].float()).square().sum(dim=1).mean() + self.spread_weight * excess
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            found = generator(torch.cat([seen, torch.zeros(len(rows), columns)], dim=1))
        return Guess("features", torch.zeros_like(rows), rows, found, party, holding.schema.numeric)


def _embedding(own: Holding, rows: Tensor) -> Tensor:
    batch = own.batch
    if own.bottom is None:
        return torch.zeros(len(rows), 0)
    with torch.no_grad():
        return own.bottom(Batch(rows, batch.numeric[rows], batch.categorical[rows])).float()


def _scores(top: nn.Module, bottom: nn.Module, numeric: Tensor, mine: Tensor) -> Tensor:
    rows = torch.arange(len(numeric))
    theirs = bottom(Batch(rows, numeric, torch.zeros(len(numeric), 0, dtype=torch.int64)))
    logits = cast(Tensor, top(torch.cat([theirs, mine], dim=1)))
    if logits.shape[1] == 1:
        return torch.cat([1 - logits.sigmoid(), logits.sigmoid()], dim=1)
    return logits.softmax(dim=1)
