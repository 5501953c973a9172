"""Randomized response on labels: how often a label is kept, and which labels may come out under a prior.

Reference: B. Ghazi, N. Golowich, R. Kumar, P. Manurangsi, C. Zhang, Deep Learning with Label Differential Privacy,
NeurIPS 2021, https://arxiv.org/abs/2102.06062
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def keep_probability(epsilon: float, classes: int) -> float:
    """Return the chance that randomized response over `classes` labels gives the true one."""
    return 1 / (1 + (classes - 1) * math.exp(-epsilon))


def respond(labels: Tensor, classes: int, epsilon: float, generator: torch.Generator) -> Tensor:
    """Return `(n,)` labels, each kept by `keep_probability` and otherwise any other one, all alike."""
    kept = torch.rand(len(labels), generator=generator, dtype=torch.float64) < keep_probability(epsilon, classes)
    other = torch.randint(1, classes, (len(labels),), generator=generator)
    return torch.where(kept, labels, (labels + other) % classes)


def unbiased(noisy: Tensor, classes: int, epsilon: float) -> Tensor:
    """Return `(n, classes)` weights whose mean over the responses to a label is that label's one-hot vector.

    Entries leave 0 to 1, rows sum to 1. A loss linear in the label then has the gradient of clean labels on average.
    """
    keep = keep_probability(epsilon, classes)
    flip = (1 - keep) / (classes - 1)
    return (torch.nn.functional.one_hot(noisy, classes) - flip) / (keep - flip)


def candidates(prior: Tensor, epsilon: float) -> Tensor:
    """Return `(n, classes)` which labels may come out of each row, given `(n, classes)` priors.

    They are the k likeliest, where k makes the chance of the true label, under the prior, greatest.
    """
    ordered, order = prior.double().sort(dim=1, descending=True, stable=True)
    sizes = torch.arange(1, prior.shape[1] + 1, dtype=torch.float64)
    chance = ordered.cumsum(dim=1) / (1 + (sizes - 1) * math.exp(-epsilon))
    best = chance.argmax(dim=1, keepdim=True) + 1
    return torch.zeros_like(ordered).scatter(1, order, (sizes <= best).double()).bool()


def transition(prior: Tensor, epsilon: float) -> Tensor:
    """Return `(n, classes, classes)` chances of each output (last) for each true label, given `(n, classes)` priors.

    Among the candidates a true label is kept as in randomized response over them; a true label that is no candidate
    gives any candidate, all alike. Each row is `epsilon`-DP whatever its prior, as long as that does not depend on
    the row's own label.
    """
    allowed = candidates(prior, epsilon)
    size = allowed.sum(dim=1).double()[:, None, None]
    keep = 1 / (1 + (size - 1) * math.exp(-epsilon))
    flip = math.exp(-epsilon) * keep
    identity = torch.eye(prior.shape[1], dtype=torch.bool)
    inside = torch.where(identity, keep, flip)
    chances = torch.where(allowed[:, :, None], inside, 1 / size)
    return chances * allowed[:, None, :]


def respond_with_prior(labels: Tensor, prior: Tensor, epsilon: float, generator: torch.Generator) -> Tensor:
    """Return `(n,)` labels drawn by `transition` for `(n,)` true labels and `(n, classes)` priors."""
    if not len(labels):
        return labels.clone()
    chances = transition(prior, epsilon)[torch.arange(len(labels)), labels]
    drawn = torch.rand((len(labels), 1), generator=generator, dtype=torch.float64)
    return (chances.cumsum(dim=1) <= drawn * chances.sum(dim=1, keepdim=True)).sum(dim=1).clamp(max=prior.shape[1] - 1)
