"""An advertiser asks whether an embedding fits what else it knows of the same rows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from vfl.defenses import Act, ReceiveContext, State, Verdict
from vfl.defenses._noise import check_positive
from vfl.defenses._watch import check_act, check_decay, check_warm_up, unsuspicious
from vfl.types import Batch, Kind, PartyId, Role

_BUCKETS, _RIDGE, _SMALL = 32, 1e-3, 1e-12


@dataclass(frozen=True)
class Consistency:
    """Flags rows whose embedding is not what the other parties' embeddings and the own columns let expect.

    Each other publisher's embedding and the advertiser's own columns (numbers as they are, ids in 32 buckets a column)
    predict the embedding by ridge regression, each alone and all together; the regressions learn with every training
    batch, earlier ones fading with `decay` (from 0, below 1). A row's score under a predictor is its mean squared error
    over coordinates, each in units of its usual error. Above mean + `deviations` (above 0) standard deviations of the
    training rows' scores the predictor votes against the row, and more than half of the votes flag it. The first
    `warm_up` batches are not judged; rows of evaluation rounds are judged and teach nothing, nor do flagged rows.
    `repair` puts the common prediction in the row's place, `report` counts, `refuse` stops the run.

    Reference: Y. Cho, W. Han, M. Yu, Y. Lee, H. Bae, Y. Paek, VFLIP: A Backdoor Defense for Vertical Federated Learning
    via Identification and Purification, ESORICS 2024, https://arxiv.org/abs/2408.15591

    There a masked auto-encoder trained after the model is the predictor, of embeddings alone, and only at inference;
    ours is linear, learns along and uses the own columns. With one publisher all predictors are the own columns: one
    vote, and none without columns. What the others cannot predict anyway hides a backdoor just as well.
    """

    deviations: float = 4.0
    warm_up: int = 20
    decay: float = 0.95
    act: Act = "report"

    side: ClassVar[Role] = Role.ADVERTISER
    binary_only: ClassVar[bool] = False
    receives: ClassVar[frozenset[Kind]] = frozenset({Kind.EMBEDDING})

    def __post_init__(self) -> None:
        check_positive(deviations=self.deviations)
        check_warm_up(self.warm_up)
        check_act(self.act)
        check_decay(self.decay)

    def init(self) -> State:
        """Return the empty state; with batches it has their number and each predictor's sums and scores."""
        return {}

    def inspect(self, body: Tensor, state: State, ctx: ReceiveContext) -> tuple[Verdict, State]:
        """Return the share of votes against each row, with its score to tell equal shares apart, and the next state."""
        known = _predictors(ctx.beside, ctx.batch)
        if not len(body) or not known:
            return unsuspicious(body), state
        exact, batches = body.double(), int(state.get("batches", torch.zeros(())))
        past = {name: _own(state, name) for name in known}
        found = {name: _judge(past[name], given, exact) for name, given in known.items()}
        against = [(each.scores > _limit(past[name], self.deviations)).double() for name, each in found.items()]
        votes, common = torch.stack(against).mean(dim=0), found[next(reversed(found))]
        flagged = (votes > 0.5) & (batches >= self.warm_up)
        suspicion = votes + common.scores / (1 + common.scores)
        verdict = Verdict(suspicion, flagged, common.predicted.to(body.dtype))
        if not ctx.learning or bool(flagged.all()):
            return verdict, state
        after: State = {"batches": torch.tensor(batches + 1)}
        for name, given in known.items():
            learned = self._learn(past[name], given[~flagged], exact[~flagged], found[name].of(~flagged))
            after.update({f"{name}/{key}": value for key, value in learned.items()})
        return verdict, after

    def _learn(self, past: State, given: Tensor, body: Tensor, judged: _Judged) -> State:
        """Return a predictor's sums with a batch in them; its errors are those made before it was learned."""
        fresh = {
            "xx": given.T @ given,
            "xy": given.T @ body,
            "errors": judged.squares.mean(dim=0),
            "moments": torch.stack([judged.scores.mean(), judged.scores.square().mean()]),
        }
        if not past:
            return fresh
        return {name: self.decay * past[name] + (1 - self.decay) * value for name, value in fresh.items()}


@dataclass(frozen=True, slots=True)
class _Judged:
    """What a predictor says of a batch: `(rows, dim)` predictions and squared errors, and `(rows,)` scores."""

    predicted: Tensor
    squares: Tensor
    scores: Tensor

    def of(self, rows: Tensor) -> _Judged:
        """Return some of the rows."""
        return _Judged(self.predicted[rows], self.squares[rows], self.scores[rows])


def _judge(past: State, given: Tensor, body: Tensor) -> _Judged:
    """Judge `(rows, dim)` by what was learned: `xx`, `xy`, and `errors` `(dim,)`; where nothing was, by the mean."""
    if past:
        xx = past["xx"]
        ridge = _RIDGE * xx.diagonal().mean().clamp(min=_SMALL)
        predicted = given @ torch.linalg.solve(xx + ridge * torch.eye(len(xx), dtype=xx.dtype), past["xy"])
        squares = (body - predicted).square()
        usual = past["errors"]
    else:
        predicted = body.mean(dim=0).expand_as(body)
        squares = (body - predicted).square()
        usual = squares.mean(dim=0)
    least = _SMALL * (1 + usual.max())
    return _Judged(predicted, squares, (squares / usual.clamp(min=least)).mean(dim=1))


def _limit(past: State, deviations: float) -> float:
    if not past:
        return math.inf
    mean, square = past["moments"].tolist()
    return mean + deviations * math.sqrt(max(square - mean**2, 0.0))


def _predictors(beside: Mapping[PartyId, Tensor], batch: Batch | None) -> dict[str, Tensor]:
    """Return what predicts the embedding, `(rows, p)` float64 with a constant: each source alone, then all of them."""
    sources = {f"party {party}": beside[party].double() for party in sorted(beside)}
    if batch is not None and (batch.numeric.shape[1] or batch.categorical.shape[1]):
        sources["own"] = torch.cat([batch.numeric.double(), *_buckets(batch.categorical)], dim=1)
    if len(sources) > 1:
        sources["all"] = torch.cat(list(sources.values()), dim=1)
    return {name: torch.cat([torch.ones(len(value), 1).double(), value], dim=1) for name, value in sources.items()}


def _buckets(categorical: Tensor) -> list[Tensor]:
    """Return each column's ids as `(rows, buckets)` indicators of their remainders."""
    remainders = (categorical % _BUCKETS).T
    return [torch.nn.functional.one_hot(column, _BUCKETS).double() for column in remainders]


def _own(state: State, name: str) -> State:
    prefix = f"{name}/"
    return {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}
