"""Embeddings of absent parties estimated by attention over aligned rows, and labels agreed on by three views."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from vfl.exchange import Mail, Outgoing, bodies_about, bodies_begun
from vfl.losses import classification_loss, probabilities
from vfl.methods import Desk, Parts, TrainOptions
from vfl.methods._crossview import Halves, Pair, agreed, attended_label_loss, common_loss, overlap_loss
from vfl.methods._imputing import Embeddings
from vfl.methods._own import OneUpdate, needed
from vfl.methods._publisher import ChosenRowsPublisher
from vfl.methods.vanilla import EVALUATE, TRAIN, valid_report
from vfl.types import ADVERTISER, REFEREE, Hop, PartyId, Phase, Pool, Step


@dataclass(frozen=True)
class Fedcvt:
    """Training on all rows, what an absent party would have sent estimated from aligned rows that look alike.

    An estimate is the attention-weighted mean of the party's embeddings of aligned rows, by the similarity of what the
    present party sent: of its unique part to its own of these rows, of its common part to the absent party's. The
    advertiser's own rows train with their labels. A publisher's train with the class on which three views agree: the
    joint network on its embedding and the others' estimates, the publisher's head, and the advertiser's head on its
    estimate; each must be as sure as its entry in `thresholds`. With few positives such a rule picks negatives alone:
    keep publishers' rows out (`align.leftover: advertiser`) or thresholds at 1.

    `temperature` sharpens the attention, over `keys` aligned rows at most, as they were when last sent. The last four
    options weigh what is added on aligned rows: likeness of publishers' common parts to the advertiser's, correlation
    of a party's two parts, error of the estimates, and attention to rows of another class. A phase goes on until
    `min_steps`.

    Who learns what beyond vanilla: the advertiser sees embeddings of rows that only a publisher holds. A publisher gets
    gradients for them that are 0 where views disagree, so it learns which were trained on.

    Reference: Y. Kang, Y. Liu, X. Liang, FedCVT: Semi-supervised Vertical Federated Learning with Cross-view Training,
    ACM TIST 2022, https://arxiv.org/abs/2008.10838

    Where we differ: one bottom a party, whose embedding is cut in two, in place of two networks; the heads are the
    run's own top; stored embeddings carry no gradient; a row does not attend to itself; labels are not softened; the
    parts' correlation is between columns, so that they may differ in width; weights of the added losses are ours.
    """

    temperature: float = 0.1
    keys: int = 2048
    thresholds: tuple[float, float, float] = (0.7, 0.7, 0.6)
    min_steps: int = 0
    common_weight: float = 0.1
    overlap_weight: float = 0.01
    estimate_weight: float = 1.0
    attention_weight: float = 0.1

    evaluate: ClassVar[tuple[Hop, ...]] = EVALUATE

    def __post_init__(self) -> None:
        weights = (self.common_weight, self.overlap_weight, self.estimate_weight, self.attention_weight)
        if self.temperature <= 0 or self.keys < 1 or self.min_steps < 0 or min(weights) < 0:
            raise ValueError(
                "got temperature, keys, min_steps or a weight too low, allowed 0 or more, keys 1; raise it"
            )
        if len(self.thresholds) != 3 or not all(0 <= each <= 1 for each in self.thresholds):
            raise ValueError(
                f"got thresholds={self.thresholds}, allowed three shares: joint, advertiser's, publisher's"
            )

    def phases(self, train: TrainOptions) -> tuple[Phase, ...]:
        """Return the one phase: everyone's rows side by side."""
        return (Phase("train", TRAIN, train.epochs, train.batch_size, Pool.UNION, min_steps=self.min_steps),)

    def publisher(self, desk: Desk) -> ChosenRowsPublisher:
        """Return a publisher's side, which sends embeddings of all its rows."""
        return ChosenRowsPublisher(desk, everything=True)

    def advertiser(self, desk: Desk) -> CrossViewAdvertiser:
        """Return the advertiser's side; raises `ConfigError` where it has no columns."""
        return CrossViewAdvertiser(desk, self)


class CrossViewAdvertiser:
    """Own bottom, joint top and a head for each party's embedding alone; keeps what aligned rows embedded to."""

    def __init__(self, desk: Desk, options: Fedcvt) -> None:
        bottom = needed(desk.bottom())
        self._desk, self._options, self._bottom = desk, options, bottom
        self._halves = Halves(min(desk.widths.values()) // 2)
        self._top = desk.top(sum(desk.widths.values()))
        self._heads = nn.ModuleDict({party: desk.top(width) for party, width in desk.widths.items()})
        learned = [p for module in (bottom, self._top, self._heads) for p in module.parameters()]
        self._optimizer = desk.train.make_optimizer(learned)
        rows = desk.rows.counts[Pool.TRAIN]
        self._seen = {party: torch.zeros(rows, width) for party, width in desk.widths.items()}
        self._known = torch.zeros(rows, dtype=torch.bool)
        self._update = OneUpdate(self._optimizer)
        self.own, self.finish = self._update.own, self._update.finish

    @property
    def parts(self) -> Parts:
        """All networks and their optimizer."""
        return {"bottom": self._bottom, "top": self._top, "heads": self._heads, "optimizer": self._optimizer}

    def loose(self) -> Mapping[str, Tensor]:
        """Return what aligned rows embedded to last."""
        return {"known": self._known, **{f"seen.{party}": body for party, body in self._seen.items()}}

    def resume(self, loose: Mapping[str, Tensor]) -> None:
        """Take it back."""
        self._known, self._seen = loose["known"], {party: loose[f"seen.{party}"] for party in self._seen}

    def fuse(self, step: Step, mail: Mail) -> Outgoing:
        """Send each publisher the gradient of the loss by its embeddings, of aligned rows and of its own."""
        batch, left = self._desk.batch(step), self._desk.leftover(step)
        count = len(batch.rows)
        sent = bodies_begun(mail, self._desk.publishers, batch.rows)
        leaves = {party: body.requires_grad_() for party, body in sent.items()}
        own = self._bottom(self._desk.rows.take(torch.cat([batch.rows, left.rows])))
        aligned: Embeddings = {**{party: leaf[:count] for party, leaf in leaves.items()}, ADVERTISER: own[:count]}
        self._see(batch.rows, aligned)
        keys = self._keys(step)
        labels, own_labels = cast(Tensor, batch.labels), cast(Tensor, left.labels)
        loss = self._supervised(aligned, labels) + self._added(aligned, batch.rows, labels, keys)
        made = self._estimated(ADVERTISER, own[count:], keys)
        loss = loss + classification_loss(self._joint(made), own_labels)
        loss = loss + classification_loss(self._heads[ADVERTISER](own[count:]), own_labels)
        theirs = {party: (mail[party].rows[count:], leaf[count:]) for party, leaf in leaves.items()}
        loss = loss + self._agreed_loss({party: held for party, held in theirs.items() if len(held[0])}, keys)
        loss.backward()
        self._update.loss = loss.item()
        gradients = {
            party: torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for party, leaf in leaves.items()
        }
        return Outgoing({party: mail[party].rows for party in gradients}, gradients)

    def score(self, step: Step, mail: Mail) -> Outgoing:
        """Send class probabilities of evaluation rows by the joint network, `(rows, classes)`, to the referee."""
        batch = self._desk.batch(step)
        with torch.no_grad():
            bodies = bodies_about(mail, self._desk.publishers, batch.rows)
            logits = self._joint({**bodies, ADVERTISER: self._bottom(batch)})
        return Outgoing(batch.rows, {REFEREE: probabilities(logits)}, report=valid_report(step, batch, logits))

    def _see(self, rows: Tensor, aligned: Embeddings) -> None:
        for party, body in aligned.items():
            self._seen[party][rows] = body.detach()
        self._known[rows] = True

    def _keys(self, step: Step) -> Tensor:
        """Return the aligned rows to attend to: those known, or as many as allowed drawn from them."""
        known = torch.nonzero(self._known)[:, 0]
        if len(known) <= self._options.keys:
            return known
        drawn = torch.randperm(len(known), generator=self._desk.seeds.torch("keys", step.index))
        return known[drawn[: self._options.keys]]

    def _joint(self, embeddings: Embeddings) -> Tensor:
        return self._top(torch.cat([embeddings[party] for party in self._desk.widths], dim=1))

    def _estimated(self, party: PartyId, body: Tensor, keys: Tensor) -> Embeddings:
        """Return all parties' embeddings of rows that one party holds: its own, and estimates of the others'."""
        pairs = {other: self._pair(party, other, keys) for other in self._desk.widths if other != party}
        made = {
            other: pair.estimate(pair.weights(body, self._options.temperature, None)) for other, pair in pairs.items()
        }
        return {other: made.get(other, body) for other in self._desk.widths}

    def _pair(self, party: PartyId, other: PartyId, keys: Tensor) -> Pair:
        return Pair(self._halves, self._seen[party][keys], self._seen[other][keys])

    def _supervised(self, aligned: Embeddings, labels: Tensor) -> Tensor:
        heads = [classification_loss(self._heads[party](body), labels) for party, body in aligned.items()]
        return classification_loss(self._joint(aligned), labels) + torch.stack(heads).sum()

    def _added(self, aligned: Embeddings, rows: Tensor, labels: Tensor, keys: Tensor) -> Tensor:
        """Return the losses on aligned rows that make embeddings translatable."""
        if len(rows) < 2:
            return torch.zeros(())
        options, same = self._options, rows[:, None] == keys[None, :]
        known = cast(Tensor, self._desk.rows.take(keys).labels)
        own = self._halves.cut(aligned[ADVERTISER])[1]
        found = torch.zeros(())
        for party, body in aligned.items():
            unique, common = self._halves.cut(body)
            if party != ADVERTISER:
                found = found + options.common_weight * common_loss(common, own)
            found = found + options.overlap_weight * overlap_loss(unique, common)
            for other in self._desk.widths:
                if other != party:
                    pair = self._pair(party, other, keys)
                    weights = pair.weights(body, options.temperature, same)
                    error = (pair.estimate(weights) - aligned[other]).square().mean()
                    found = found + options.estimate_weight * error
                    for each in weights:
                        found = found + options.attention_weight * attended_label_loss(each, labels, known)
        return found

    def _agreed_loss(self, theirs: Mapping[PartyId, tuple[Tensor, Tensor]], keys: Tensor) -> Tensor:
        """Return the loss on publishers' own rows, by handle and embedding, whose class the three views agree on."""
        loss, believed = torch.zeros(()), list[tuple[Tensor, Tensor]]()
        for party, (rows, body) in theirs.items():
            made = self._estimated(party, body, keys)
            views = [self._joint(made), self._heads[ADVERTISER](made[ADVERTISER]), self._heads[party](body)]
            with torch.no_grad():
                classes, sure = agreed([probabilities(view) for view in views], self._options.thresholds)
            loss = loss + classification_loss(views[0][sure], classes[sure])
            believed.append((rows, classes))
        if believed:
            self._desk.rows.believe(*(torch.cat(part) for part in zip(*believed, strict=True)))
        return loss
