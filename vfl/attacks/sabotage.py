"""Sabotage: a publisher sends noise, nothing, another row's embedding, or the same for all, and keeps taking part."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from vfl.attacks import Guess, Needs, SendContext, State
from vfl.attacks._tampering import share_of, spread
from vfl.transcript import AdversaryView
from vfl.types import Kind, Role


@dataclass(frozen=True)
class Sabotage:
    """Spoils the embeddings of a `share` of rows, the same rows whenever they are sent, in training and in serving.

    By `way`: `noise` adds Gaussian noise of `noise_std` spreads of the batch's own coordinates, `missing` sends zeros,
    `misaligned` sends each the embedding of another of the spoiled rows in its batch (a join gone wrong), `free_riding`
    sends their mean, which costs the publisher no data. The attack is untargeted: what is marked is how much oftener
    the joint model is wrong on spoiled test rows than on the others, which is also its cost to the honest. `share: 1`
    leaves no other rows to compare with: compare the utility of two runs then.

    Reference: T. Zou, Z. Gu, Y. He, H. Takahashi, Y. Liu, Y.-Q. Zhang, VFLAIR: A Research Library and Benchmark for
    Vertical Federated Learning, ICLR 2024, https://arxiv.org/abs/2310.09827 (its noisy samples and missing features)

    There features are spoiled, here what leaves the party: the receiver cannot tell the difference.
    """

    way: Literal["noise", "missing", "misaligned", "free_riding"] = "missing"
    share: float = 0.5
    noise_std: float = 1.0

    kinds: ClassVar[frozenset[Kind]] = frozenset({Kind.EMBEDDING})
    side: ClassVar[Role] = Role.PUBLISHER
    binary_only: ClassVar[bool] = False

    def __post_init__(self) -> None:
        share_of("share", self.share)
        if not (math.isfinite(self.noise_std) and self.noise_std >= 0):
            raise ValueError(f"noise_std: got {self.noise_std}, allowed any number from 0; 1 is as wide as the signal")

    @property
    def needs(self) -> Needs:
        """What it sent, and a run that it took part in."""
        return Needs(sent=frozenset({Kind.EMBEDDING}), active=True)

    def init(self) -> State:
        """Return no state: which rows are spoiled follows from their handles."""
        return {}

    def apply(self, body: Tensor, state: State, ctx: SendContext) -> tuple[Tensor, State]:
        """Return what is sent in place of the `(rows, dim)` embeddings."""
        hit = torch.ones(len(body), dtype=torch.bool) if ctx.rows is None else spread(ctx.rows, self.share)
        sent, honest = body.detach().clone(), body.detach()[hit]
        if len(honest):
            sent[hit] = self._in_place_of(honest, ctx)
        return sent, state

    def infer(self, view: AdversaryView, rng: torch.Generator) -> Guess:
        """Return which rows it spoiled, of all that it ever sent."""
        del rng
        rows = view.embeddings().rows.unique()
        return Guess("outcome", torch.zeros_like(rows), rows, spread(rows, self.share).float())

    def _in_place_of(self, honest: Tensor, ctx: SendContext) -> Tensor:
        if self.way == "noise":
            drawn = torch.randn(honest.shape, generator=ctx.generator, dtype=honest.dtype)
            return honest + self.noise_std * honest.std(dim=0, unbiased=False) * drawn
        if self.way == "misaligned":
            return honest.roll(1, dims=0)
        return torch.zeros_like(honest) if self.way == "missing" else honest.mean(dim=0).expand_as(honest)
