"""What the advertiser imputes embeddings from: those it was sent of aligned rows, and what it learned of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from vfl.impute import State
from vfl.methods import Desk
from vfl.types import ADVERTISER, PartyId, Pool, Step

Embeddings = dict[PartyId, Tensor]
"""Each party's `(rows, width)` embedding of the same rows, in roster order, the advertiser last."""


class Imputation:
    """Imputes at the cut layer, from the embeddings that aligned rows had when they were last sent.

    `own` gives the advertiser's embedding of some handles. What was learned is thrown away every `refit_every` rounds,
    since embeddings move while the bottoms train. Imputed values carry no gradient.
    """

    def __init__(
        self, desk: Desk, spec: Mapping[str, Any] | str, refit_every: int, own: Callable[[Tensor], Tensor]
    ) -> None:
        self._desk, self._own, self._refit_every = desk, own, refit_every
        self._imputer = desk.imputer(spec)
        rows = desk.rows.counts[Pool.TRAIN]
        self._seen = {party: torch.zeros(rows, desk.widths[party]) for party in desk.publishers}
        self._known = torch.zeros(rows, dtype=torch.bool)
        self._labels = desk.rows.take(desk.rows.handles(Pool.TRAIN)).labels
        self._states: dict[str, State] = {}
        self._fitted_at = torch.tensor(-refit_every)

    def loose(self) -> Mapping[str, Tensor]:
        """Return all that a checkpoint must hold."""
        seen = {f"seen.{party}": body for party, body in self._seen.items()}
        states = {f"state.{key}.{name}": v for key, state in self._states.items() for name, v in state.items()}
        return {**seen, **states, "known": self._known, "fitted_at": self._fitted_at}

    def resume(self, loose: Mapping[str, Tensor]) -> None:
        """Take back what `loose` gave."""
        self._seen = {party: loose[f"seen.{party}"] for party in self._seen}
        self._known, self._fitted_at = loose["known"], loose["fitted_at"]
        for key, value in loose.items():
            if key.startswith("state."):
                _, pattern, name = key.split(".", 2)
                self._states[pattern] = {**self._states.get(pattern, {}), name: value}

    def see(self, step: Step, rows: Tensor, bodies: Mapping[PartyId, Tensor]) -> None:
        """Keep what was sent of `rows`, aligned training handles; forget what was learned when that is due."""
        for party in self._desk.publishers:
            self._seen[party][rows] = bodies[party].detach()
        self._known[rows] = True
        if step.index - int(self._fitted_at) >= self._refit_every:
            self.forget(step)

    def forget(self, step: Step) -> None:
        """Throw away what was learned: it is learned again when it is needed."""
        self._states, self._fitted_at = {}, torch.tensor(step.index)

    def fill(self, step: Step, given: Embeddings, labels: Tensor | None) -> Embeddings:
        """Return the embeddings of all parties, the missing ones imputed from the given ones.

        `labels` are the rows' classes, below 0 where not known; `None` knows none.
        """
        rows = len(next(iter(given.values())))
        missing = {party: width for party, width in self._desk.widths.items() if party not in given}
        if not missing or not rows or not bool(self._known.any()):
            return {party: given.get(party, torch.zeros(rows, width)) for party, width in self._desk.widths.items()}
        pattern = "+".join(given)
        if pattern not in self._states:
            self._states[pattern] = self._fit(pattern, given, step)
        known = torch.cat([body.detach() for body in given.values()], dim=1)
        classes = torch.full((rows,), -1) if labels is None else labels
        generator = self._desk.seeds.torch("imputed", pattern, step.index)
        found = self._imputer.transform(known, classes, self._states[pattern], generator)
        parts = dict(zip(missing, found.split(list(missing.values()), dim=1), strict=True))
        return {party: given[party] if party in given else parts[party] for party in self._desk.widths}

    def _fit(self, pattern: str, given: Embeddings, step: Step) -> State:
        handles = torch.nonzero(self._known)[:, 0]
        full = {party: body[handles] for party, body in self._seen.items()}
        if ADVERTISER in self._desk.widths:
            full[ADVERTISER] = self._own(handles)
        halves = (
            torch.cat([full[party] for party in full if party in given], dim=1),
            torch.cat([full[party] for party in full if party not in given], dim=1),
        )
        labels = torch.zeros(len(handles), dtype=torch.int64) if self._labels is None else self._labels[handles]
        with torch.enable_grad():  # an imputer that learns may be needed where nothing else does
            return self._imputer.fit(*halves, labels, self._desk.seeds.torch("impute", pattern, step.index))
