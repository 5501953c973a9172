"""A conditional generative adversarial network of what is missing, given the rest."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from vfl.impute import State
from vfl.impute._net import Plan, condition, draw, original, places, prepared, run


@dataclass(frozen=True)
class Gan:
    """A generator of the missing half from the given half and noise, against a judge of whole rows.

    Beside fooling the judge, the generator pays `reconstruction` times its squared error, which keeps it on the row at
    hand; without that term it only matches the distribution. Both in units of each column's spread.

    Reference: M. Mirza, S. Osindero, Conditional Generative Adversarial Nets, 2014, https://arxiv.org/abs/1411.1784
    (the squared error, the sizes and the use on embeddings are ours)
    """

    noise: int = 8
    hidden: int = 64
    reconstruction: float = 10.0
    steps: int = 500
    batch_size: int = 128
    lr: float = 1e-3
    label: bool = False

    def __post_init__(self) -> None:
        Plan(self.steps, self.batch_size, self.lr)
        if min(self.noise, self.hidden) < 1 or self.reconstruction < 0:
            raise ValueError("got noise or hidden below 1 or a reconstruction below 0; raise it")

    @property
    def needs_labels(self) -> bool:
        """Whether `label` is set."""
        return self.label

    def fit(self, given: Tensor, missing: Tensor, labels: Tensor, generator: torch.Generator) -> State:
        """Return the generator's weights and both halves' scales; the judge is let go."""
        state, known, real = prepared(given, missing, labels, self.label)
        wide, target = known.shape[1], real.shape[1]
        maker = _leaves(draw("maker", [wide + self.noise, self.hidden, target], generator))
        judge = _leaves(draw("judge", [wide + target, self.hidden, 1], generator))
        optimizers = [
            torch.optim.Adam(part.values(), lr=self.lr, betas=(0.5, 0.999), fused=True) for part in (maker, judge)
        ]
        for _ in range(self.steps):
            rows = places(len(given), self.batch_size, generator)
            made = self._make(maker, known[rows], generator)
            judged = judge_loss(_verdict(judge, known[rows], real[rows]), _verdict(judge, known[rows], made.detach()))
            _update(optimizers[1], judged)
            error = (made - real[rows]).square().mean()
            _update(optimizers[0], maker_loss(_verdict(judge, known[rows], made)) + self.reconstruction * error)
        return {**state, **{name: value.detach() for name, value in maker.items()}}

    def transform(self, given: Tensor, labels: Tensor, state: State, generator: torch.Generator) -> Tensor:
        """Return one draw for each row, `(rows, m)`."""
        known = condition(state, given, labels)
        return original(state, self._make(dict(state), known, generator))

    def _make(self, weights: dict[str, Tensor], known: Tensor, generator: torch.Generator) -> Tensor:
        noise = torch.randn(len(known), self.noise, generator=generator)
        return run(weights, "maker", torch.cat([known, noise], dim=1))


def judge_loss(real: Tensor, made: Tensor) -> Tensor:
    """Return -mean(log D(real)) - mean(log(1 - D(made))) of `(rows, 1)` verdicts as logits."""
    return functional.softplus(-real).mean() + functional.softplus(made).mean()


def maker_loss(made: Tensor) -> Tensor:
    """Return -mean(log D(made)), the form that does not saturate."""
    return functional.softplus(-made).mean()


def _verdict(judge: dict[str, Tensor], known: Tensor, rest: Tensor) -> Tensor:
    return run(judge, "judge", torch.cat([known, rest], dim=1))


def _leaves(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.requires_grad_() for name, value in weights.items()}


def _update(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
