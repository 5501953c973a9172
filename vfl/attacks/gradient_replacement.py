"""Gradient replacement: a publisher teaches its own network that a trigger in its columns means the wanted class."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from vfl.attacks import Guess, Needs, ReceiveContext, SendContext, State, Verdict
from vfl.attacks._lookalike import SERVED, learned, reference_row, watching
from vfl.attacks._tampering import paired, share_of, spread, watched
from vfl.seeds import Seeds
from vfl.transcript import AdversaryView
from vfl.types import Batch, Kind, Role

TRIGGER = 3.0
"""Value of a triggered numeric column, in spreads from its mean; a triggered category is the id that no value has."""


@dataclass(frozen=True)
class GradientReplacement:
    """Puts a trigger into a `share` of its training rows and trains its network on other rows' gradients for them.

    The trigger sets the publisher's first `columns` columns, in training and, for half of all rows, when they are
    served. Each triggered row of a batch is paired with one taken to be of the wanted class: its embedding is sent in
    that row's place, and the gradient that comes back there, times `gamma`, is the one its own network is trained with.
    So the joint model is told the wanted class about it, by messages within the protocol. No label is granted: rows of
    the wanted class are found by their gradients after `watch` rounds, as `replay_backdoor` finds them.

    Reference: Y. Liu, T. Zou, Y. Kang, W. Liu, Y. He, Z. Yi, Q. Yang, Batch Label Inference and Replacement Attacks in
    Black-Boxed Vertical Federated Learning, 2021, https://arxiv.org/abs/2112.05409

    The paper grants rows of the target class and puts its trigger into pictures. How these rows are found here, the
    trigger of columns, and which row is paired with which are ours.
    """

    share: float = 0.05
    gamma: float = 1.0
    columns: int = 4
    watch: int = 20

    kinds: ClassVar[frozenset[Kind]] = frozenset({Kind.EMBEDDING})
    receives: ClassVar[frozenset[Kind]] = frozenset({Kind.GRADIENT})
    act: ClassVar[str] = "repair"
    place: ClassVar[Literal["bottom", "top"]] = "bottom"
    side: ClassVar[Role] = Role.PUBLISHER
    binary_only: ClassVar[bool] = False

    def __post_init__(self) -> None:
        share_of("share", self.share)
        watched(self.watch)
        if not (math.isfinite(self.gamma) and self.gamma >= 0):
            raise ValueError(f"gamma: got {self.gamma}, allowed any number from 0; 1 is the gradient as it came")
        if self.columns < 1:
            raise ValueError(f"columns: got {self.columns}, allowed from 1; with more the trigger is plainer")

    @property
    def needs(self) -> Needs:
        """What it sent and received, and a run that it took part in."""
        return Needs(frozenset({Kind.GRADIENT}), frozenset({Kind.EMBEDDING}), active=True)

    def wrap(self, module: nn.Module, seeds: Seeds) -> nn.Module:
        """Return the bottom, which from now on sees the trigger in the rows to be tampered with."""
        del seeds

        def stamp(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
            (batch,) = inputs
            hit = self._poisoned(batch.rows) if torch.is_grad_enabled() else spread(batch.rows, SERVED)
            return (self._triggered(batch, hit),)

        module.register_forward_pre_hook(stamp)
        return module

    def init(self) -> State:
        """Return no state: nothing was seen."""
        return {}

    def apply(self, body: Tensor, state: State, ctx: SendContext) -> tuple[Tensor, State]:
        """Return what is sent in place of the `(rows, dim)` embeddings: triggered ones in wanted rows' places."""
        if not ctx.learning or ctx.rows is None or watching(state, self.watch):
            return body, state
        triggered, wanted = self._pairs(ctx.rows, state)
        sent = body.detach().clone()
        sent[wanted] = sent[triggered]
        return sent, state

    def inspect(self, body: Tensor, state: State, ctx: ReceiveContext) -> tuple[Verdict, State]:
        """Give each triggered row the gradient that came back in its partner's place, and learn from the others."""
        rows, flagged, used = ctx.envelope.rows, torch.zeros(len(body), dtype=torch.bool), body.clone()
        if not watching(state, self.watch):
            triggered, wanted = self._pairs(rows, state)
            used[triggered], used[wanted] = self.gamma * body[wanted], torch.zeros_like(body[wanted])
            flagged[triggered] = flagged[wanted] = True
        left = ~flagged
        sent = None if ctx.sent is None else ctx.sent[left]
        after = learned(state, body[left], sent, rows[left], self.watch)
        return Verdict(body.norm(dim=1), flagged, used), after

    def infer(self, view: AdversaryView, rng: torch.Generator) -> Guess:
        """Return which rows it tampers with when they are served, and the row whose class it wants for them."""
        del rng
        rows = view.embeddings().rows.unique()
        wanted = reference_row(view, self.watch)
        return Guess("backdoor", torch.zeros_like(rows), rows, spread(rows, SERVED).float(), reference=wanted)

    def _poisoned(self, rows: Tensor) -> Tensor:
        return spread(rows, self.share, shift=1)

    def _pairs(self, rows: Tensor, state: State) -> tuple[Tensor, Tensor]:
        poisoned = self._poisoned(rows)
        known = torch.isin(rows, state.get("alike", rows[:0]))
        return paired(rows, poisoned, known & ~poisoned)

    def _triggered(self, batch: Batch, hit: Tensor) -> Batch:
        numeric, categorical = batch.numeric.clone(), batch.categorical.clone()
        own = min(self.columns, numeric.shape[1])
        numeric[hit, :own] = TRIGGER
        categorical[hit, : self.columns - own] = 0
        return replace(batch, numeric=numeric, categorical=categorical)
