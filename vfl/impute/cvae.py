"""A conditional variational autoencoder of what is missing, given the rest."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vfl.impute import State
from vfl.impute._net import Plan, condition, draw, minimise, original, prepared, run


@dataclass(frozen=True)
class Cvae:
    """Draws a code from a prior that sees what is given, and decodes it together with what is given.

    Fitted on aligned rows by the evidence bound: squared error of the decoder (a Gaussian of unit variance, in units
    of each column's spread) plus `beta` times the divergence of the recogniser, which sees both halves, from the prior.
    What it imputes is the mean of `samples` decoded draws. `label` shows the class to prior and decoder.

    Reference: K. Sohn, X. Yan, H. Lee, Learning Structured Output Representation using Deep Conditional Generative
    Models, NeurIPS 2015, https://papers.nips.cc/paper/5775 (on embeddings here, with plain layers)
    """

    code: int = 8
    hidden: int = 64
    beta: float = 1.0
    samples: int = 5
    steps: int = 500
    batch_size: int = 128
    lr: float = 2e-3
    label: bool = False

    def __post_init__(self) -> None:
        self._plan()
        if min(self.code, self.hidden, self.samples) < 1 or self.beta < 0:
            raise ValueError("got a code, hidden or samples below 1 or a beta below 0; raise it")

    @property
    def needs_labels(self) -> bool:
        """Whether `label` is set."""
        return self.label

    def fit(self, given: Tensor, missing: Tensor, labels: Tensor, generator: torch.Generator) -> State:
        """Return the weights of prior, recogniser and decoder, and both halves' scales."""
        state, known, targets = prepared(given, missing, labels, self.label)
        wide, target = known.shape[1], targets.shape[1]
        weights = {
            **draw("prior", [wide, self.hidden, 2 * self.code], generator),
            **draw("recogniser", [wide + target, self.hidden, 2 * self.code], generator),
            **draw("decoder", [wide + self.code, self.hidden, target], generator),
        }

        def loss(found: dict[str, Tensor], rows: Tensor) -> Tensor:
            seen, wanted = known[rows], targets[rows]
            ours = run(found, "recogniser", torch.cat([seen, wanted], dim=1)).chunk(2, dim=1)
            prior = run(found, "prior", seen).chunk(2, dim=1)
            code = ours[0] + torch.exp(ours[1]) * torch.randn(ours[0].shape, generator=generator)
            error = (run(found, "decoder", torch.cat([seen, code], dim=1)) - wanted).square().sum(dim=1) / 2
            return (error + self.beta * gaussian_kl(ours, prior)).mean()

        return {**state, **minimise(weights, loss, len(given), self._plan(), generator)}

    def transform(self, given: Tensor, labels: Tensor, state: State, generator: torch.Generator) -> Tensor:
        """Return the mean of the decoded draws, `(rows, m)`."""
        known = condition(state, given, labels)
        mean, log_std = run(state, "prior", known).chunk(2, dim=1)
        found = torch.zeros(len(given), len(state["missing_mean"]))
        for _ in range(self.samples):
            code = mean + torch.exp(log_std) * torch.randn(mean.shape, generator=generator)
            found = found + run(state, "decoder", torch.cat([known, code], dim=1)) / self.samples
        return original(state, found)

    def _plan(self) -> Plan:
        return Plan(self.steps, self.batch_size, self.lr)


def gaussian_kl(ours: tuple[Tensor, ...], prior: tuple[Tensor, ...]) -> Tensor:
    """Return `(rows,)` KL divergences between diagonal Gaussians, each a mean and the logarithm of its deviation."""
    ratio = torch.exp(2 * (ours[1] - prior[1]))
    shift = (ours[0] - prior[0]).square() * torch.exp(-2 * prior[1])
    return 0.5 * (ratio + shift - 1 - 2 * (ours[1] - prior[1])).sum(dim=1)
