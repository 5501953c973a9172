"""Passive model completion: finish the trained bottom with a head of one's own, from few labelled rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from vfl.attacks import Guess, Needs
from vfl.attacks._heads import batches, beside_controls, classify, dense, standardise
from vfl.attacks._own import columns, embeddings, fresh_embeddings
from vfl.transcript import AdversaryView

TEMPERATURE, ALPHA, WEIGHT, RAMP = 0.8, 0.75, 50.0, 0.5


@dataclass(frozen=True)
class ModelCompletion:
    """Names every row's class by a head on the publisher's trained embeddings, fitted on `labelled_rows` known rows.

    The attacker is a publisher, after training; it reads no message, only its own columns and network. `head_only`
    fits a linear head. `mixmatch` also learns from unlabelled rows: class guesses averaged over two noised copies
    and sharpened, and mixed with labelled rows, for `steps` steps. One score a class and row, known rows left out.

    Controls fit the linear head on `random_bottom` (the same network before training) and `own_columns` (no network):
    what these reach is the publisher's own features being predictive, not labels that leaked through training.

    Reference: C. Fu, X. Zhang, S. Ji, J. Chen, J. Wu, S. Guo, J. Zhou, A. X. Liu, T. Wang, Label Inference Attacks
    Against Vertical Federated Learning, USENIX Security 2022,
    https://www.usenix.org/conference/usenixsecurity22/presentation/fu-chong

    The authors fine-tune the bottom and augment images; here the bottom stays frozen, and a copy is an embedding with
    noise of a tenth of each coordinate's spread and a tenth of its coordinates left out. The controls are ours.
    """

    labelled_rows: int = 40
    head: Literal["head_only", "mixmatch"] = "head_only"
    steps: int = 600

    def __post_init__(self) -> None:
        if self.labelled_rows < 2:
            raise ValueError(
                f"labelled_rows: got {self.labelled_rows}, allowed from 2; the paper has 10 a class and more"
            )
        if self.head not in ("head_only", "mixmatch"):
            raise ValueError(f"head: got {self.head!r}, allowed 'head_only' or 'mixmatch'; the first is quick")
        if self.steps < 1:
            raise ValueError(f"steps: got {self.steps}, allowed from 1; a few hundred suffice for one layer")

    @property
    def needs(self) -> Needs:
        """The publisher's own columns and network, and labelled rows."""
        return Needs(own_features=True, own_models=True, labelled_rows=self.labelled_rows)

    def infer(self, view: AdversaryView, rng: torch.Generator) -> Guess:
        """Return `(n, classes)` log probabilities of each aligned row that was not hinted."""
        known, labels, classes = view.hints.rows, view.hints.labels, view.classes
        seen = embeddings(view)
        if self.head == "mixmatch":
            scores = self._mixmatch(standardise(seen), known, labels, classes, rng)
        else:
            scores = classify(seen, known, labels, classes, rng, steps=self.steps)
        held = {"random_bottom": fresh_embeddings(view), "own_columns": columns(view)}
        return beside_controls(view, scores, held, rng, self.steps)

    def _mixmatch(self, seen: Tensor, known: Tensor, labels: Tensor, classes: int, rng: torch.Generator) -> Tensor:
        head = dense([seen.shape[1], classes], rng)
        optimizer = torch.optim.Adam(head.parameters(), lr=0.01, weight_decay=1e-3)
        targets = functional.one_hot(labels, classes).float()
        size = min(64, len(known))
        told, untold = (batches(rows, size, self.steps, rng) for rows in (len(known), len(seen)))
        for step, (places, others) in enumerate(zip(told, untold, strict=True)):
            weight = WEIGHT * min(1.0, step / (RAMP * self.steps))
            loss = _mixed_loss(head, (seen[known[places]], targets[places]), seen[others], weight, rng)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            return head(seen).log_softmax(dim=1)


def _mixed_loss(
    head: torch.nn.Module, told: tuple[Tensor, Tensor], untold: Tensor, weight: float, rng: torch.Generator
) -> Tensor:
    """Return MixMatch's loss of one batch: cross-entropy of mixed known rows, squared error of mixed unknown ones."""
    copies = [_copy(untold, rng) for _ in range(2)]
    with torch.no_grad():
        guess = (head(copies[0]).softmax(dim=1) + head(copies[1]).softmax(dim=1)) / 2
        guess = guess ** (1 / TEMPERATURE)
        guess = guess / guess.sum(dim=1, keepdim=True)
    inputs, targets = torch.cat([_copy(told[0], rng), *copies]), torch.cat([told[1], guess, guess])
    partner = torch.randperm(len(inputs), generator=rng)
    share = _beta(rng)
    share = max(share, 1 - share)
    predicted = head(share * inputs + (1 - share) * inputs[partner])
    wanted = share * targets + (1 - share) * targets[partner]
    known = len(told[0])
    entropy = -(wanted[:known] * predicted[:known].log_softmax(dim=1)).sum(dim=1).mean()
    return entropy + weight * (predicted[known:].softmax(dim=1) - wanted[known:]).square().mean()


def _copy(inputs: Tensor, rng: torch.Generator) -> Tensor:
    noised = inputs + 0.1 * torch.randn(inputs.shape, generator=rng)
    return noised * (torch.rand(inputs.shape, generator=rng) > 0.1)


def _beta(rng: torch.Generator) -> float:
    """Return a draw from Beta(ALPHA, ALPHA), by Johnk's rule."""
    while True:
        left, right = (torch.rand(2, generator=rng, dtype=torch.float64) ** (1 / ALPHA)).tolist()
        if 0 < left + right <= 1:
            return left / (left + right)
