"""The similarity attack: cluster what a publisher sees, and name the clusters by a few rows of known label."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from vfl.attacks import Guess, Needs
from vfl.attacks._own import embeddings, without_training
from vfl.transcript import AdversaryView, Pooled
from vfl.types import Kind


@dataclass(frozen=True)
class Clustering:
    """Names each row's class by the cluster it falls into; one cluster a class, started at and named by known rows.

    The attacker is a publisher that knows the labels of `hints` rows. `on` says what it clusters: the last `gradients`
    it received, brought to length 1 (so that distance is cosine), or its own trained `embeddings`, standardised. A
    cluster starts at the mean of the known rows of its class (a class without one at the row farthest from all), and
    k-means runs for `rounds` rounds, the known rows held to their clusters. With 0 rounds it is the nearest known mean.
    The score of a class is less the distance to its centre. Known rows are not scored. On embeddings, controls cluster
    `random_bottom` (the network before training) and `own_columns` (no network) alike: what these reach is the
    publisher's columns, not a leak.

    Reference: J. Liu, X. Lyu, Q. Cui, X. Tao, Similarity-based Label Inference Attack against Training and Inference
    of Split Learning, IEEE TIFS 2024, https://arxiv.org/abs/2203.05222

    Clusters are named by known rows alone: naming them by how all rows fall, as some code does, reads the labels.
    """

    hints: int = 10
    on: Literal["gradients", "embeddings"] = "gradients"
    rounds: int = 20

    def __post_init__(self) -> None:
        if self.hints < 2:
            raise ValueError(f"hints: got {self.hints}, allowed from 2; one of each class at least")
        if self.on not in ("gradients", "embeddings"):
            raise ValueError(f"on: got {self.on!r}, allowed 'gradients' or 'embeddings'; gradients tell more")
        if self.rounds < 0:
            raise ValueError(f"rounds: got {self.rounds}, allowed from 0; 0 is the nearest known mean")

    @property
    def needs(self) -> Needs:
        """Received gradients or the publisher's own columns and network, and `hints` labelled rows."""
        if self.on == "gradients":
            return Needs(received=frozenset({Kind.GRADIENT}), labelled_rows=self.hints)
        return Needs(own_features=True, own_models=True, labelled_rows=self.hints)

    def infer(self, view: AdversaryView, rng: torch.Generator) -> Guess:
        """Return `(n, classes)` scores of each row that was not hinted; draws nothing from `rng`."""
        del rng
        seen = self._seen(view)
        known = torch.isin(seen.rows, view.hints.rows)
        labels = torch.full_like(seen.rows, -1)
        order = view.hints.rows.argsort()
        place = torch.searchsorted(view.hints.rows[order], seen.rows[known])
        labels[known] = view.hints.labels[order][place]
        kept = ~known if bool((~known).any()) else known
        held = {} if self.on == "gradients" else without_training(view)
        controls = {name: self._near(_standard(each), labels, view.classes)[kept] for name, each in held.items()}
        scores = self._near(seen.body.double(), labels, view.classes)[kept]
        return Guess("labels", torch.zeros_like(seen.rows[kept]), seen.rows[kept], scores, controls=controls)

    def _near(self, points: Tensor, labels: Tensor, classes: int) -> Tensor:
        """Return `(n, classes)`: less the distance of each point to each class's centre; -1 is an unknown label."""
        known, centres = labels >= 0, _starts(points, labels, classes)
        for _ in range(self.rounds):
            nearest = torch.where(known, labels, torch.cdist(points, centres).argmin(dim=1))
            member = functional.one_hot(nearest, classes).double()
            counts = member.sum(dim=0)[:, None]
            centres = torch.where(counts > 0, member.T @ points / counts.clamp(min=1), centres)
        return -torch.cdist(points, centres)

    def _seen(self, view: AdversaryView) -> Pooled:
        if self.on == "gradients":
            last = view.gradients().last()
            return Pooled(last.steps, last.rows, functional.normalize(last.body.double(), dim=1))
        body = _standard(embeddings(view))
        rows = torch.arange(len(body))
        return Pooled(torch.zeros_like(rows), rows, body)


def _standard(points: Tensor) -> Tensor:
    centred = points.double() - points.double().mean(dim=0)
    return centred / centred.std(dim=0).clamp(min=1e-9)


def _starts(points: Tensor, labels: Tensor, classes: int) -> Tensor:
    centres: list[Tensor] = []
    for label in range(classes):
        named = points[labels == label]
        if len(named):
            centres.append(named.mean(dim=0))
            continue
        others = torch.stack(centres) if centres else points.mean(dim=0, keepdim=True)
        centres.append(points[torch.cdist(points, others).amin(dim=1).argmax()])
    return torch.stack(centres)
