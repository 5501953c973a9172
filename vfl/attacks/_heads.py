"""Small networks that attacks fit, with weights drawn from the attack's own stream."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from vfl.attacks import Guess
from vfl.transcript import AdversaryView


def dense(widths: Sequence[int], rng: torch.Generator) -> nn.Sequential:
    """Return linear layers from `widths[0]` to `widths[-1]` with ReLU between them, biases 0."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layer = cast(nn.Linear, nn.utils.skip_init(nn.Linear, inputs, outputs))
        with torch.no_grad():
            layer.weight.copy_(torch.randn(outputs, inputs, generator=rng) / math.sqrt(inputs))
            layer.bias.zero_()
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def batches(rows: int, size: int, steps: int, rng: torch.Generator) -> list[Tensor]:
    """Return `steps` batches of places below `rows`, epoch after epoch, each epoch shuffled afresh."""
    found: list[Tensor] = []
    while len(found) < steps:
        found += torch.randperm(rows, generator=rng).split(size)
    return found[:steps]


def standardise(inputs: Tensor) -> Tensor:
    """Return float32 `inputs` less their mean, over their spread, column by column."""
    centred = inputs.float() - inputs.float().mean(dim=0)
    return centred / centred.std(dim=0).clamp(min=1e-6)


def classify(
    inputs: Tensor, known: Tensor, labels: Tensor, classes: int, rng: torch.Generator, *, steps: int = 400
) -> Tensor:
    """Fit a linear head on the `known` places of `(n, d)` inputs and return log probabilities `(n, classes)` of all.

    Inputs are standardised over all rows; a weight decay of 1e-3 keeps few labels from being learned by heart.
    """
    if inputs.shape[1] == 0 or len(known) == 0:
        return torch.zeros(len(inputs), classes)
    seen = standardise(inputs)
    head = dense([inputs.shape[1], classes], rng)
    optimizer = torch.optim.Adam(head.parameters(), lr=0.01, weight_decay=1e-3)
    for places in batches(len(known), 512, steps, rng):
        loss = functional.cross_entropy(head(seen[known[places]]), labels[places])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        return head(seen).log_softmax(dim=1)


def beside_controls(
    view: AdversaryView, scores: Tensor, held: Mapping[str, Tensor], rng: torch.Generator, steps: int
) -> Guess:
    """Return a guess of the class of every aligned row that was not hinted, by `(n, classes)` scores of all.

    Its controls are the scores of `classify` on each of the `(n, d)` inputs that are `held` without training.
    """
    known, labels = view.hints.rows, view.hints.labels
    controls = {name: classify(each, known, labels, view.classes, rng, steps=steps) for name, each in held.items()}
    rows = torch.arange(len(scores))
    kept = ~torch.isin(rows, known)
    controls = {name: each[kept] for name, each in controls.items()}
    return Guess("labels", torch.zeros_like(rows[kept]), rows[kept], scores[kept], controls=controls)


def regress(
    inputs: Tensor, known: Tensor, values: Tensor, rng: torch.Generator, *, hidden: int = 64, steps: int = 2000
) -> Tensor:
    """Fit a network with one hidden layer on `known` places of `(n, d)` inputs; return values `(n, columns)` of all."""
    seen = standardise(inputs)
    centre, spread = values.mean(dim=0), values.std(dim=0, unbiased=False).clamp(min=1e-6)
    head = dense([inputs.shape[1], hidden, values.shape[1]], rng)
    optimizer = torch.optim.Adam(head.parameters(), lr=3e-3, weight_decay=1e-4)
    targets = (values - centre) / spread
    for places in batches(len(known), 256, steps, rng):
        loss = functional.mse_loss(head(seen[known[places]]), targets[places])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        return head(seen) * spread + centre
