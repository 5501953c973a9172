"""Equality solving: read features off the confidence scores of a linear model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from vfl.attacks import Guess, Needs
from vfl.attacks._victim import victim
from vfl.errors import ThreatError
from vfl.transcript import AdversaryView, Holding, pool
from vfl.types import Batch, Kind


@dataclass(frozen=True)
class EqualitySolving:
    """Solves the log ratios of each row's class probabilities for the publisher's features.

    The attacker is the advertiser of a vertical logistic regression (linear bottoms, `top: sum`), knows both bottoms,
    and has the probabilities of every evaluated row. ln v_k - ln v_(k+1) is linear in the publisher's numeric columns,
    so `classes` - 1 equations give up to that many columns exactly, and the shortest solution beyond. With one logit
    there is one equation. Publishers with categorical columns are refused: their ids are not linear.

    It solves the scores as they were sent, rounded or noised as their defenses leave them. So what it shows of a
    defense of scores is its worth against somebody who is given scores and the networks, such as a client of the
    service: the advertiser itself computes them, and needs only leave them unrounded.

    Reference: X. Luo, Y. Wu, X. Xiao, B. C. Ooi, Feature Inference Attack on Model Predictions in Vertical Federated
    Learning, IEEE ICDE 2021, https://arxiv.org/abs/2010.10152

    Columns here are standardised, not scaled to 0 and 1, so the shortest solution is the one nearest the mean.
    """

    @property
    def needs(self) -> Needs:
        """The scores it computed, its own columns and network, and the publisher's network."""
        return Needs(sent=frozenset({Kind.SCORE}), own_features=True, own_models=True, victim_models=True)

    def infer(self, view: AdversaryView, rng: torch.Generator) -> Guess:
        """Return `(n, columns)` numeric values; raises `ThreatError` for a model it cannot solve."""
        del rng
        party, holding = victim(view)
        if len(view.hints.victims) > 1 or holding.schema.categorical or holding.bottom is None:
            raise ThreatError("got a run it cannot solve, allowed one publisher of numeric columns", key="attack")
        slope, offset = _affine(holding.bottom, len(holding.schema.numeric))
        scored = pool(view.sent, Kind.SCORE).last()
        known = offset + _own_logits(view, scored.rows)
        scores = solve(scored.body.double(), slope, known)
        rows = scored.rows
        return Guess("features", torch.zeros_like(rows), rows, scores, party, holding.schema.numeric)


def solve(probabilities: Tensor, slope: Tensor, known: Tensor) -> Tensor:
    """Return `(n, columns)` features x with logits `x @ slope + known` giving `(n, classes)` probabilities.

    `slope` is `(columns, logits)` and `known` `(n, logits)`; one logit stands for two classes.
    """
    logs = probabilities.clamp(min=1e-12).log()
    if slope.shape[1] == 1:
        equations, right = slope, logs[:, 1:] - logs[:, :1] - known
    else:
        equations = slope[:, :-1] - slope[:, 1:]
        right = logs[:, :-1] - logs[:, 1:] - (known[:, :-1] - known[:, 1:])
    return right @ torch.linalg.pinv(equations)


def _affine(bottom: nn.Module, columns: int) -> tuple[Tensor, Tensor]:
    """Return slope `(columns, width)` and offset `(width,)` of a bottom; raises `ThreatError` if it is not affine."""
    eye = torch.eye(columns)
    none = torch.zeros(columns, 0, dtype=torch.int64)
    with torch.no_grad():
        zero = bottom(Batch(torch.arange(1), torch.zeros(1, columns), none[:1]))
        one, minus = (bottom(Batch(torch.arange(columns), sign * eye, none)) for sign in (1, -1))
    if not torch.allclose(one + minus, 2 * zero.expand_as(one), atol=1e-4):
        raise ThreatError("got a bottom that is not linear, allowed bottom: linear", key="attack")
    return (one - zero).double(), zero[0].double()


def _own_logits(view: AdversaryView, rows: Tensor) -> Tensor:
    """Return what the adversary's own part adds to the logits of some rows, `(n, logits)`."""
    (own,) = view.own.values()
    top = own.top
    bias = getattr(top, "bias", None)
    if top is None or not isinstance(bias, nn.Parameter) or len(list(top.parameters())) != 1:
        raise ThreatError("got a top with weights, allowed top: sum", key="attack")
    return bias.detach().double() + (_embedding(own, rows) if own.bottom is not None else 0)


def _embedding(own: Holding, rows: Tensor) -> Tensor:
    batch = own.batch
    with torch.no_grad():
        return cast(nn.Module, own.bottom)(Batch(rows, batch.numeric[rows], batch.categorical[rows])).double()
