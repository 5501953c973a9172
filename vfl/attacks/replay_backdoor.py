"""Replay backdoor: rows are served with the embedding that a row of the wanted class had in training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from vfl.attacks import Guess, Needs, ReceiveContext, SendContext, State, Verdict
from vfl.attacks._lookalike import SERVED, learned, reference_row
from vfl.attacks._tampering import spread, watched
from vfl.transcript import AdversaryView
from vfl.types import Kind, Role


@dataclass(frozen=True)
class ReplayBackdoor:
    """Sends, for half of all rows served, an embedding it recorded, so that the joint model gives them its class.

    Nothing is tampered with in training. The publisher is granted no label: the row with the longest gradient of the
    first `watch` rounds stands for the class it wants, rows whose gradients point the same way are taken to be of that
    class, and what it sent of the one that the joint model was surest of is what it replays. The mark is how often rows
    of other classes are given that class, beside rows that were left alone.

    Reference: Y. Liu, T. Zou, Y. Kang, W. Liu, Y. He, Z. Yi, Q. Yang, Batch Label Inference and Replacement Attacks in
    Black-Boxed Vertical Federated Learning, 2021, https://arxiv.org/abs/2112.05409

    The paper grants a few rows of the target class. How they are found here, by gradients, is ours.
    """

    watch: int = 20

    kinds: ClassVar[frozenset[Kind]] = frozenset({Kind.EMBEDDING})
    receives: ClassVar[frozenset[Kind]] = frozenset({Kind.GRADIENT})
    act: ClassVar[str] = "report"
    side: ClassVar[Role] = Role.PUBLISHER
    binary_only: ClassVar[bool] = False

    def __post_init__(self) -> None:
        watched(self.watch)

    @property
    def needs(self) -> Needs:
        """What it sent and received, and a run that it took part in."""
        return Needs(frozenset({Kind.GRADIENT}), frozenset({Kind.EMBEDDING}), active=True)

    def init(self) -> State:
        """Return no state: nothing was seen."""
        return {}

    def apply(self, body: Tensor, state: State, ctx: SendContext) -> tuple[Tensor, State]:
        """Return what is sent in place of the `(rows, dim)` embeddings: in training, themselves."""
        if ctx.learning or ctx.rows is None or "embedding" not in state:
            return body, state
        hit = spread(ctx.rows, SERVED)
        return torch.where(hit[:, None], state["embedding"].to(body.dtype), body.detach()), state

    def inspect(self, body: Tensor, state: State, ctx: ReceiveContext) -> tuple[Verdict, State]:
        """Learn from the `(rows, dim)` gradients that came back, and use them as they are."""
        rows = ctx.envelope.rows
        return Verdict(body.norm(dim=1), torch.zeros(len(body), dtype=torch.bool), body), learned(
            state, body, ctx.sent, rows, self.watch
        )

    def infer(self, view: AdversaryView, rng: torch.Generator) -> Guess:
        """Return which rows it tampers with when they are served, and the row whose class it wants for them."""
        del rng
        rows = view.embeddings().rows.unique()
        wanted = reference_row(view, self.watch)
        return Guess("backdoor", torch.zeros_like(rows), rows, spread(rows, SERVED).float(), reference=wanted)
