"""Local updates from a cache of recent exchanges, weighted by how stale they are."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from vfl.exchange import Mail, Outgoing
from vfl.losses import row_losses
from vfl.methods import Desk, Parts, TrainOptions
from vfl.methods.vanilla import EVALUATE, TRAIN, VanillaAdvertiser, VanillaPublisher
from vfl.types import Hop, PartyId, Phase, Step


@dataclass(frozen=True)
class Celu:
    """`vanilla`, but between exchanges each party takes `local_steps` less one updates on exchanges it keeps.

    Each keeps its last `cache` exchanges (rows, what it sent, what it was sent) and goes through them in turn. A row
    counts for the cosine between what the party computes for it now and what it computed at the exchange (a publisher:
    embeddings; the advertiser: gradients by the embeddings), and for nothing below `threshold`. Nothing else crosses
    the wire than under `vanilla`; `local_steps: 1` is `vanilla`.

    Reference: F. Fu, X. Miao, J. Jiang, H. Xue, B. Cui, Towards Communication-efficient Vertical Federated Learning
    Training via Cache-enabled Local Updates, VLDB 2022, https://arxiv.org/abs/2207.14628

    Written from the paper's outline: a table of cached exchanges, local sampling in turn and weighting by staleness
    are its ideas; that weights are cosines of these quantities, cut off at a threshold, is our reading.
    """

    local_steps: int = 3
    cache: int = 3
    threshold: float = 0.5

    evaluate: ClassVar[tuple[Hop, ...]] = EVALUATE
    heeds: ClassVar[frozenset[str]] = frozenset({"labels", "releases", "classes"})

    def __post_init__(self) -> None:
        if min(self.local_steps, self.cache) < 1 or not -1 <= self.threshold <= 1:
            raise ValueError("got local_steps or cache below 1 or a threshold outside -1 to 1; change it")

    def phases(self, train: TrainOptions) -> tuple[Phase, ...]:
        """Return the one phase: the aligned rows, epoch after epoch."""
        return (Phase("train", TRAIN, epochs=train.epochs, batch_size=train.batch_size),)

    def publisher(self, desk: Desk) -> CachingPublisher:
        """Return a publisher's side."""
        return CachingPublisher(desk, self)

    def advertiser(self, desk: Desk) -> CachingAdvertiser:
        """Return the advertiser's side."""
        return CachingAdvertiser(desk, self)


Exchange = dict[str, Tensor]
"""One exchange: `rows`, `(rows, width)` `sent` and `got`; at the advertiser joined over publishers."""


class Cache:
    """The last exchanges of one party, taken in turn: the one that was left alone longest is next."""

    def __init__(self, size: int) -> None:
        self._kept: deque[Exchange] = deque(maxlen=size)
        self._last: deque[int] = deque(maxlen=size)
        self._turn = 0

    def add(self, exchange: Exchange) -> None:
        """Keep an exchange, which has just been trained on, in place of the oldest."""
        self._kept.append(exchange)
        self._last.append(self._now())

    def turn(self) -> Exchange:
        """Return the exchange that was trained on longest ago."""
        place = min(range(len(self._last)), key=lambda at: self._last[at])
        self._last[place] = self._now()
        return self._kept[place]

    def loose(self) -> dict[str, Tensor]:
        """Return all that is kept."""
        kept = {f"{place}.{name}": value for place, one in enumerate(self._kept) for name, value in one.items()}
        return {**kept, "last": torch.tensor(list(self._last), dtype=torch.int64)}

    def resume(self, loose: Mapping[str, Tensor]) -> None:
        """Take back what `loose` gave."""
        self._last.extend(loose["last"].tolist())
        self._turn = max(self._last, default=0)
        for place in sorted({int(key.split(".")[0]) for key in loose if "." in key}):
            self._kept.append({name: loose[f"{place}.{name}"] for name in ("rows", "sent", "got")})

    def _now(self) -> int:
        self._turn += 1
        return self._turn


class CachingPublisher:
    """A publisher of `vanilla` that goes on with gradients of recent exchanges."""

    def __init__(self, desk: Desk, options: Celu) -> None:
        self._desk, self._options, self._side = desk, options, VanillaPublisher(desk)
        self._cache, self._sent = Cache(options.cache), torch.empty(0, 0)
        self.embed, self.loose, self.resume = self._side.embed, self._cache.loose, self._cache.resume

    @property
    def parts(self) -> Parts:
        """Those of `vanilla`."""
        return self._side.parts

    def forward(self, step: Step, mail: Mail) -> Outgoing:
        """Send embeddings as `vanilla` does, and keep them."""
        found = self._side.forward(step, mail)
        self._sent = next(iter(found.bodies.values())).detach()
        return found

    def backward(self, step: Step, mail: Mail) -> Outgoing:
        """Update with the gradient, then with gradients of kept exchanges."""
        (gradient,) = mail.values()
        self._cache.add({"rows": self._desk.batch(step).rows, "sent": self._sent, "got": gradient.body.clone()})
        found = self._side.backward(step, mail)
        optimizer = cast(torch.optim.Optimizer, self._side.parts["optimizer"])
        for _ in range(self._options.local_steps - 1):
            kept = self._cache.turn()
            embedding = self._side.bottom(self._desk.rows.take(kept["rows"]))
            weights = staleness(embedding.detach(), kept["sent"], self._options.threshold)
            optimizer.zero_grad()
            embedding.backward(weights[:, None] * kept["got"])
            optimizer.step()
        return found


class CachingAdvertiser:
    """An advertiser of `vanilla` that goes on with embeddings of recent exchanges."""

    def __init__(self, desk: Desk, options: Celu) -> None:
        self._desk, self._options, self._side = desk, options, VanillaAdvertiser(desk)
        self._cache = Cache(options.cache)
        self.own, self.score, self.loose, self.resume = (
            self._side.own,
            self._side.score,
            self._cache.loose,
            self._cache.resume,
        )

    @property
    def parts(self) -> Parts:
        """Those of `vanilla`."""
        return self._side.parts

    def fuse(self, step: Step, mail: Mail) -> Outgoing:
        """Send gradients as `vanilla` does, and keep the exchange."""
        got = self._beside({party: mail[party].body.detach().clone() for party in self._desk.publishers}, step)
        found = self._side.fuse(step, mail)
        sent = self._beside({party: body.clone() for party, body in found.bodies.items()}, step)
        self._cache.add({"rows": self._desk.batch(step).rows, "sent": sent, "got": got})
        return found

    def finish(self, step: Step, mail: Mail) -> Outgoing:
        """Update, then with kept embeddings; the loss reported is that of the exchange."""
        found = self._side.finish(step, mail)
        optimizer = cast(torch.optim.Optimizer, self._side.parts["optimizer"])
        for _ in range(self._options.local_steps - 1):
            kept = self._cache.turn()
            if not len(kept["rows"]):
                continue
            batch, leaf = self._desk.rows.take(kept["rows"]), kept["got"].clone().requires_grad_()
            own = [] if self._side.bottom is None else [self._side.bottom(batch)]
            top = cast(nn.Module, self._side.parts["top"])
            losses = row_losses(top(torch.cat([leaf, *own], dim=1)), cast(Tensor, batch.labels)) / len(batch.rows)
            (fresh,) = torch.autograd.grad(losses.sum(), leaf, retain_graph=True)
            weights = staleness(fresh, kept["sent"], self._options.threshold)
            optimizer.zero_grad()
            (weights * losses).sum().backward()
            optimizer.step()
        return found

    def _beside(self, bodies: Mapping[PartyId, Tensor], step: Step) -> Tensor:
        return torch.cat([*bodies.values(), torch.zeros(len(self._desk.batch(step).rows), 0)], dim=1)


def staleness(now: Tensor, then: Tensor, threshold: float) -> Tensor:
    """Return `(rows,)` weights: the cosine between rows of now and then, 0 where it is below `threshold`."""
    cosine = functional.cosine_similarity(now, then, dim=1)
    return torch.where(cosine < threshold, torch.zeros_like(cosine), cosine)
