"""Feature-space hijacking: an advertiser trains the publisher's network to embed as one does that it can invert."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from vfl.attacks import Guess, Needs, ReceiveContext, SendContext, State, Verdict
from vfl.attacks._own import WIDEST
from vfl.attacks._tampering import no_rows
from vfl.attacks._victim import victim
from vfl.errors import ThreatError
from vfl.seeds import Seeds
from vfl.transcript import AdversaryView
from vfl.types import Batch, Kind, Role

OWN = Seeds(b"feature-space hijacking")
"""The attacker's own randomness: it is the attacker's to choose, and after the run it draws the same again."""

HIDDEN, PILOT_BATCH = 64, 128
DECAY, SQUARE_DECAY, TINY = 0.5, 0.9, 1e-8
"""Adam's moments as networks that play against each other are usually trained."""


@dataclass(frozen=True)
class Fsha:
    """Sends, in place of the loss's gradient, one that pulls the publisher's embeddings towards a network of its own.

    The attacker is the advertiser, and it breaks the protocol. It knows `known_rows` training rows of the publisher,
    in training already. In each round it fits a pilot network and its inverse on a batch of those by squared error,
    moves a critic (Wasserstein, gradient penalty of weight `smoothness`) to tell the pilot's embeddings from those that
    came, and returns the gradient by which the publisher's network deceives the critic. No label enters what it sends,
    so the joint model learns nothing from the publisher, which shows. The inverse of the pilot then reads the
    embeddings: numeric columns, standardised. Known rows are not scored.

    Reference: D. Pasquini, G. Ateniese, M. Bernaschi, Unleashing the Tiger: Inference Attacks on Split Learning, ACM
    CCS 2021, https://arxiv.org/abs/2012.02670

    The paper hijacks convolutional networks on pictures for some ten thousand rounds, with public pictures of the same
    kind. Here it is dense networks of one hidden layer of 64, tables, and as many rounds as the run has, hence a quick
    `lr`, which suits two made-up skewed columns (nmse .3 after 300 rounds) and was tried on no other. Dense bottoms
    are known to resist (A. Semenov et al., Just a Simple Transformation is Enough for Data Protection in Vertical
    Federated Learning, 2024, https://arxiv.org/abs/2412.11689): expect it to be hardly better than the mean.
    """

    known_rows: int = 500
    lr: float = 0.01
    smoothness: float = 10.0

    kinds: ClassVar[frozenset[Kind]] = frozenset({Kind.GRADIENT})
    receives: ClassVar[frozenset[Kind]] = frozenset({Kind.EMBEDDING})
    act: ClassVar[str] = "report"
    side: ClassVar[Role] = Role.ADVERTISER
    binary_only: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.known_rows < 2:
            raise ValueError(f"known_rows: got {self.known_rows}, allowed from 2; a few hundred train a pilot")
        if not (math.isfinite(self.lr) and self.lr > 0):
            raise ValueError(f"lr: got {self.lr}, allowed any number above 0; 0.01 is a start")
        if not (math.isfinite(self.smoothness) and self.smoothness >= 0):
            raise ValueError(
                f"smoothness: got {self.smoothness}, allowed any number from 0; 10 keeps the critic smooth"
            )

    @property
    def needs(self) -> Needs:
        """Embeddings and the answers to them, known rows, and a run that it took part in."""
        kinds = frozenset({Kind.EMBEDDING}), frozenset({Kind.GRADIENT})
        return Needs(*kinds, known_rows=self.known_rows, active=True)

    def init(self) -> State:
        """Return no state: the networks are made when their widths are seen."""
        return {}

    def inspect(self, body: Tensor, state: State, ctx: ReceiveContext) -> tuple[Verdict, State]:
        """Take a round of hijacking on the `(rows, dim)` embeddings that came; they are used as they are."""
        if ctx.learning and ctx.known is not None and ctx.known.numeric.numel():
            state = self._round(state, body.detach(), _table(ctx.known), ctx.known.numeric.shape[1])
        return Verdict(body.norm(dim=1), no_rows(body), body), state

    def apply(self, body: Tensor, state: State, ctx: SendContext) -> tuple[Tensor, State]:
        """Return the gradient of deceiving the critic in place of the loss's `(rows, dim)` gradient."""
        pull = state.get("pull")
        if not ctx.learning or pull is None or pull.shape != body.shape:
            return body, state
        return pull.to(body.dtype), state

    def infer(self, view: AdversaryView, rng: torch.Generator) -> Guess:
        """Return `(n, columns)` numeric values, by the inverse fitted again as it was in the run.

        Raises `ThreatError` where the publisher has no numeric column.
        """
        del rng
        party, holding = victim(view)
        if not holding.schema.numeric:
            raise ThreatError(f"{party} has no numeric column, which is what this attack reads", key="attack")
        last = view.incoming(party).last()
        public, columns = _table(holding.batch), len(holding.schema.numeric)
        state = _networks(public.shape[1], last.body.shape[1], columns)
        for _ in {each.step for each in view.sent if each.dst == party}:
            state = self._pilot(state, public, columns)
        others = ~torch.isin(last.rows, holding.batch.rows)
        rows = last.rows[others]
        found = _run("inverse", state, last.body[others].float())
        return Guess("features", torch.zeros_like(rows), rows, found, party, holding.schema.numeric)

    def _round(self, state: State, came: Tensor, public: Tensor, columns: int) -> State:
        """Return the state after a round, with the `pull` `(rows, dim)` to be sent about the embeddings that came."""
        came = came.float()
        state = self._pilot(state or _networks(public.shape[1], came.shape[1], columns), public, columns)
        drawn = OWN.torch("critic", int(state["rounds"]))
        ours = _run("pilot", state, public[torch.randint(0, len(public), (len(came),), generator=drawn)])
        share = torch.rand(len(came), 1, generator=drawn)
        between = (share * ours + (1 - share) * came).requires_grad_()

        def misjudged(state: State) -> Tensor:
            (slope,) = torch.autograd.grad(_run("critic", state, between).sum(), between, create_graph=True)
            smooth = (slope.norm(dim=1) - 1).square().mean()
            return _run("critic", state, came).mean() - _run("critic", state, ours).mean() + self.smoothness * smooth

        state = _stepped(state, ("critic",), misjudged, self.lr)
        leaf = came.clone().requires_grad_()
        (pull,) = torch.autograd.grad(-_run("critic", state, leaf).mean(), leaf)
        return {**state, "pull": pull}

    def _pilot(self, state: State, public: Tensor, columns: int) -> State:
        """Return the state after a step of the pilot and its inverse on a batch of known rows."""
        drawn = OWN.torch("pilot", int(state["rounds"]))
        batch = public[torch.randint(0, len(public), (PILOT_BATCH,), generator=drawn)]

        def misfit(state: State) -> Tensor:
            return functional.mse_loss(_run("inverse", state, _run("pilot", state, batch)), batch[:, :columns])

        state = {**state, "rounds": state["rounds"] + 1}
        return _stepped(state, ("pilot", "inverse"), misfit, self.lr)


def _table(batch: Batch) -> Tensor:
    """Return `(n, p)` numeric columns and one-hot categorical ones; ids of a column from 100 on are folded."""
    ids = batch.categorical % WIDEST
    hot = [functional.one_hot(column, WIDEST).float() for column in ids.T]
    return torch.cat([batch.numeric.float(), *hot], dim=1)


def _networks(inputs: int, width: int, columns: int) -> State:
    """Return the pilot, its inverse and the critic, each with one hidden layer, before any round."""
    state = {"rounds": torch.tensor(0)}
    for net, shape in {"pilot": (inputs, width), "inverse": (width, columns), "critic": (width, 1)}.items():
        stream = OWN.torch(net)
        for layer, (before, after) in enumerate(((shape[0], HIDDEN), (HIDDEN, shape[1]))):
            weight = torch.randn(before, after, generator=stream) / math.sqrt(before)
            for name, value in ((f"{net}.weight{layer}", weight), (f"{net}.bias{layer}", torch.zeros(after))):
                state |= {
                    name: value,
                    f"mean.{name}": torch.zeros_like(value),
                    f"square.{name}": torch.zeros_like(value),
                }
    return state


def _run(net: str, state: State, inputs: Tensor) -> Tensor:
    hidden = torch.relu(inputs @ state[f"{net}.weight0"] + state[f"{net}.bias0"])
    return hidden @ state[f"{net}.weight1"] + state[f"{net}.bias1"]


def _stepped(state: State, nets: tuple[str, ...], loss: Callable[[State], Tensor], lr: float) -> State:
    """Return the state after one step of Adam on the weights of some networks; all else is as it was."""
    names = [name for name in state if name.split(".")[0] in nets]
    leaves = {name: state[name].clone().requires_grad_() for name in names}
    gradients = torch.autograd.grad(loss({**state, **leaves}), list(leaves.values()))
    after, rounds = dict(state), int(state["rounds"])
    for name, gradient in zip(names, gradients, strict=True):
        mean = DECAY * state[f"mean.{name}"] + (1 - DECAY) * gradient
        square = SQUARE_DECAY * state[f"square.{name}"] + (1 - SQUARE_DECAY) * gradient.square()
        scale = (square / (1 - SQUARE_DECAY**rounds)).sqrt() + TINY
        moved = state[name] - lr * mean / (1 - DECAY**rounds) / scale
        after |= {name: moved, f"mean.{name}": mean, f"square.{name}": square}
    return after
