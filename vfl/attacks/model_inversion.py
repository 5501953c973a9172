"""Model inversion: find the features whose embedding is the one received."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn

from vfl.attacks import Guess, Needs
from vfl.attacks._heads import regress
from vfl.attacks._victim import inverting, victim
from vfl.errors import ThreatError
from vfl.transcript import AdversaryView, Holding
from vfl.types import Batch, Kind


@dataclass(frozen=True)
class ModelInversion:
    """Guesses a publisher's numeric columns from its embeddings and its network.

    The attacker is the advertiser. With `access` `white_box` it minimises |bottom(x) - h|^2 + `prior_weight` |x|^2 over
    the numeric columns by `steps` steps of Adam from 0 (the mean, columns being standardised), and before every
    quarter of them tries each id of each categorical column in turn, which can settle on a wrong one. With `black_box`
    it may only ask the network: it draws 4096 rows of independent normal numbers and even ids, and fits a decoder on
    their embeddings. Up to `rows` rows of the latest embeddings, those evaluated by the final network, are inverted.

    Reference: Z. He, T. Zhang, R. B. Lee, Model Inversion Attacks Against Collaborative Inference, ACSAC 2019,
    https://doi.org/10.1145/3359789.3359824

    The paper inverts pictures under a smoothness penalty; tables have none, so the search over ids and the normal
    draws are ours.
    """

    access: Literal["white_box", "black_box"] = "white_box"
    rows: int = 500
    steps: int = 800
    prior_weight: float = 1e-3

    def __post_init__(self) -> None:
        if self.access not in ("white_box", "black_box"):
            raise ValueError(f"access: got {self.access!r}, allowed 'white_box' or 'black_box'; the first knows more")
        inverting(self.prior_weight, rows=self.rows, steps=self.steps)

    @property
    def needs(self) -> Needs:
        """Received embeddings and the publisher's network."""
        return Needs(received=frozenset({Kind.EMBEDDING}), victim_models=True)

    def infer(self, view: AdversaryView, rng: torch.Generator) -> Guess:
        """Return `(n, columns)` numeric values; raises `ThreatError` where the publisher has no numeric column."""
        party, holding = victim(view)
        if not holding.schema.numeric or holding.bottom is None:
            raise ThreatError(f"{party} has no numeric column, or no network was granted", key="attack")
        last = view.incoming(party).last()
        chosen = last.steps.argsort(stable=True)[-self.rows :].sort().values
        found = (self._descend if self.access == "white_box" else self._ask)(holding, last.body[chosen].float(), rng)
        rows = last.rows[chosen]
        return Guess("features", torch.zeros_like(rows), rows, found, party, holding.schema.numeric)

    def _descend(self, holding: Holding, wanted: Tensor, rng: torch.Generator) -> Tensor:
        bottom, sizes = cast(nn.Module, holding.bottom), holding.schema.sizes
        numeric = torch.zeros(len(wanted), len(holding.schema.numeric), requires_grad=True)
        columns = [torch.randint(0, size, (len(wanted),), generator=rng) for size in sizes]
        ids = torch.stack(columns, dim=1) if columns else torch.zeros(len(wanted), 0, dtype=torch.int64)
        optimizer = torch.optim.Adam([numeric], lr=0.05)
        rows = torch.arange(len(wanted))
        for step in range(self.steps):
            if step % max(self.steps // 4, 1) == 0:
                ids = _best_ids(bottom, numeric.detach(), ids, wanted, sizes)
            misfit = (bottom(Batch(rows, numeric, ids)) - wanted).square().sum()
            loss = misfit + self.prior_weight * numeric.square().sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return numeric.detach()

    def _ask(self, holding: Holding, wanted: Tensor, rng: torch.Generator) -> Tensor:
        asked = 4096
        numeric = torch.randn(asked, len(holding.schema.numeric), generator=rng)
        columns = [torch.randint(0, size, (asked,), generator=rng) for size in holding.schema.sizes]
        ids = torch.stack(columns, dim=1) if columns else torch.zeros(asked, 0, dtype=torch.int64)
        with torch.no_grad():
            answers = cast(nn.Module, holding.bottom)(Batch(torch.arange(asked), numeric, ids)).float()
        return regress(torch.cat([answers, wanted]), torch.arange(asked), numeric, rng, steps=self.steps)[asked:]


def _best_ids(bottom: nn.Module, numeric: Tensor, ids: Tensor, wanted: Tensor, sizes: tuple[int, ...]) -> Tensor:
    """Return ids improved one column at a time: the id of least misfit given all else."""
    rows, ids = torch.arange(len(wanted)), ids.clone()
    for place, size in enumerate(sizes):
        misfits: list[Tensor] = []
        for candidate in range(size):
            ids[:, place] = candidate
            with torch.no_grad():
                misfits.append((bottom(Batch(rows, numeric, ids)) - wanted).square().sum(dim=1))
        ids[:, place] = torch.stack(misfits).argmin(dim=0)
    return ids
