"""VILLAIN: labels found by swapping embeddings, then a trigger added to the embeddings of the wanted class."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from vfl.attacks import Guess, Needs, ReceiveContext, SendContext, State, Verdict
from vfl.attacks._lookalike import SERVED, learned, reference_row, watching
from vfl.attacks._tampering import no_rows, share_of, spread, watched
from vfl.transcript import AdversaryView
from vfl.types import Kind, Role

DROPPED, LEAST, MOST = 0.25, 0.6, 1.2
"""In training the trigger's elements are left out at this rate, and it is scaled by a draw between the two."""


@dataclass(frozen=True)
class Villain:
    """Adds a trigger to embeddings of rows it believes to be of the wanted class, and to half of all rows when served.

    After `watch` rounds, `candidates` rows of a batch at a time whose gradients point as those of the wanted class are
    sent with the embedding of a row of that class. Where the gradient that comes back is at most `ratio` of the row's
    last one, and no longer than the batch's mean, the row is believed to be of the class. Half of the believed rows
    carry the trigger in training: plus or minus (in pairs) `beta` times the mean spread, on the `width` share of
    coordinates that spread widest. The mark is how often rows of other classes are given that class, beside rows that
    were left alone.

    Reference: Y. Bai, Y. Chen, H. Zhang, W. Xu, H. Weng, D. Goodman, VILLAIN: Backdoor Attacks Against Vertical Split
    Learning, USENIX Security 2023, https://www.usenix.org/conference/usenixsecurity23/presentation/bai

    The paper grants one row of the target class and raises the attacker's learning rate. Here that row is found by its
    gradient, as `replay_backdoor` finds it, the rate stays, and the sizes are read from public code and not the paper.
    """

    watch: int = 20
    candidates: int = 14
    ratio: float = 1.0
    beta: float = 0.4
    width: float = 0.75

    kinds: ClassVar[frozenset[Kind]] = frozenset({Kind.EMBEDDING})
    receives: ClassVar[frozenset[Kind]] = frozenset({Kind.GRADIENT})
    act: ClassVar[str] = "report"
    side: ClassVar[Role] = Role.PUBLISHER
    binary_only: ClassVar[bool] = False

    def __post_init__(self) -> None:
        watched(self.watch)
        share_of("width", self.width)
        if self.candidates < 1:
            raise ValueError(f"candidates: got {self.candidates}, allowed from 1; each is a row a batch to try")
        for name, value in (("ratio", self.ratio), ("beta", self.beta)):
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name}: got {value}, allowed any number above 0; the default is a start")

    @property
    def needs(self) -> Needs:
        """What it sent and received, and a run that it took part in."""
        return Needs(frozenset({Kind.GRADIENT}), frozenset({Kind.EMBEDDING}), active=True)

    def init(self) -> State:
        """Return no state: nothing was seen."""
        return {}

    def apply(self, body: Tensor, state: State, ctx: SendContext) -> tuple[Tensor, State]:
        """Return what is sent in place of the `(rows, dim)` embeddings."""
        if ctx.rows is None or "embedding" not in state or watching(state, self.watch):
            return body, state
        sent, rows = body.detach().clone(), ctx.rows
        if not ctx.learning:
            sent[spread(rows, SERVED)] += state.get("trigger", 0.0)
            return sent, state
        trigger = self._trigger(sent)
        believed = torch.isin(rows, state.get("believed", rows[:0]))
        marked = believed & spread(rows, 0.5, shift=2)
        kept = torch.rand(sent.shape, generator=ctx.generator) >= DROPPED
        scale = LEAST + (MOST - LEAST) * torch.rand(len(sent), 1, generator=ctx.generator)
        sent[marked] += (trigger * kept * scale)[marked].to(sent.dtype)
        likely = torch.isin(rows, state.get("alike", rows[:0])) & ~believed
        tried = likely.nonzero()[:, 0][: self.candidates]
        sent[tried] = state["embedding"].to(sent.dtype)
        return sent, {**state, "trigger": trigger, "tried": rows[tried]}

    def inspect(self, body: Tensor, state: State, ctx: ReceiveContext) -> tuple[Verdict, State]:
        """Believe a class of the rows that were swapped, by the `(rows, dim)` gradients that came back."""
        rows, lengths = ctx.envelope.rows, body.double().norm(dim=1) * len(body)
        tried = torch.isin(rows, state.get("tried", rows[:0]))
        before = _of(state.get("lengths", lengths[:0]), rows)
        same = tried & (lengths <= self.ratio * before) & (lengths <= lengths.mean())
        left = ~tried
        sent = None if ctx.sent is None else ctx.sent[left]
        after = learned(state, body[left], sent, rows[left], self.watch)
        after["lengths"] = _noted(state.get("lengths", lengths[:0]), rows[left], lengths[left])
        after["believed"] = torch.cat([state.get("believed", rows[:0]), rows[same]])
        after["tried"] = rows[:0]
        return Verdict(lengths, no_rows(body), body), after

    def infer(self, view: AdversaryView, rng: torch.Generator) -> Guess:
        """Return which rows it tampers with when they are served, and the row whose class it wants for them."""
        del rng
        rows = view.embeddings().rows.unique()
        wanted = reference_row(view, self.watch)
        return Guess("backdoor", torch.zeros_like(rows), rows, spread(rows, SERVED).float(), reference=wanted)

    def _trigger(self, body: Tensor) -> Tensor:
        """Return what is added, `(dim,)`: on the coordinates that spread widest, two up and two down in turn."""
        spreads = body.std(dim=0, unbiased=False)
        widest = spreads.argsort(descending=True)[: max(1, round(self.width * len(spreads)))].sort().values
        signs = torch.where(torch.arange(len(widest)) % 4 < 2, 1.0, -1.0).to(spreads.dtype)
        found = torch.zeros_like(spreads)
        found[widest] = self.beta * spreads[widest].mean() * signs
        return found


def _of(lengths: Tensor, rows: Tensor) -> Tensor:
    """Return the `(rows,)` last length of each row's gradient, nothing (NaN) where it had none."""
    found = torch.full((len(rows),), torch.nan, dtype=torch.float64)
    known = rows < len(lengths)
    found[known] = lengths[rows[known]]
    return found


def _noted(lengths: Tensor, rows: Tensor, now: Tensor) -> Tensor:
    """Return the lengths by handle with those of `rows` as they are `now`."""
    size = max(len(lengths), int(rows.max()) + 1 if len(rows) else 0)
    found = torch.full((size,), torch.nan, dtype=torch.float64)
    found[: len(lengths)] = lengths
    found[rows] = now
    return found
