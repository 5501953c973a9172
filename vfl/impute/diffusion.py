"""A conditional diffusion model of what is missing, given the rest."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from vfl.impute import State
from vfl.impute._net import Plan, condition, draw, minimise, original, prepared, run

Denoise = Callable[[Tensor, int], Tensor]
"""The expected clean values of `(rows, m)` noised ones at a step."""

TIME_WIDTH = 16


@dataclass(frozen=True)
class Diffusion:
    """Samples from a conditional denoising diffusion model of standardised embeddings.

    A network predicts the clean values (by way of `velocity`) from noised ones, the step and what is given; sampling
    walks back without added noise (DDIM) over `sampling_steps` of the `timesteps`.

    `label` shows the class to the network; without it no class enters. `guidance` w pushes samples by
    (1 + w) g(given) - w g(nothing), for which a share `drop` of training rows hides what is given.

    FedAds' Diffu-AT generates federated embeddings by a conditional diffusion model; its schedule, its network and its
    condition could not be read, and those here (linear schedule, velocity prediction, plain layers) are ours.

    Reference: J. Ho, A. Jain, P. Abbeel, Denoising Diffusion Probabilistic Models, NeurIPS 2020,
    https://arxiv.org/abs/2006.11239; sampler: J. Song, C. Meng, S. Ermon, Denoising Diffusion Implicit Models, ICLR
    2021, https://arxiv.org/abs/2010.02502; velocity: T. Salimans, J. Ho, Progressive Distillation for Fast Sampling of
    Diffusion Models, ICLR 2022, https://arxiv.org/abs/2202.00512
    """

    timesteps: int = 1000
    sampling_steps: int = 25
    hidden: int = 64
    guidance: float = 0.0
    drop: float = 0.1
    steps: int = 1500
    batch_size: int = 128
    lr: float = 5e-3
    label: bool = False

    def __post_init__(self) -> None:
        self._plan()
        if not 2 <= self.sampling_steps <= self.timesteps or self.hidden < 1:
            raise ValueError(f"got sampling_steps={self.sampling_steps}, allowed 2 to timesteps={self.timesteps}")
        if self.guidance < 0 or not 0 <= self.drop < 1 or (self.guidance and not self.drop):
            raise ValueError(
                f"got guidance={self.guidance}, drop={self.drop}, allowed 0 or more and 0 to 1, not 0 if guided"
            )

    @property
    def needs_labels(self) -> bool:
        """Whether `label` is set."""
        return self.label

    def fit(self, given: Tensor, missing: Tensor, labels: Tensor, generator: torch.Generator) -> State:
        """Return the network's weights and both halves' scales."""
        state, known, clean = prepared(given, missing, labels, self.label)
        kept = alpha_bars(self.timesteps)

        def loss(weights: dict[str, Tensor], rows: Tensor) -> Tensor:
            times = torch.randint(self.timesteps, (len(rows),), generator=generator)
            noise = torch.randn(len(rows), clean.shape[1], generator=generator)
            shown = (torch.rand(len(rows), 1, generator=generator) >= self.drop).to(known.dtype)
            noised = noise_to(clean[rows], noise, kept[times][:, None])
            wanted = velocity(clean[rows], noise, kept[times][:, None])
            found = _predict(weights, noised, times, known[rows] * shown, self.timesteps)
            return (found - wanted).square().sum(dim=1).mean()

        wide = clean.shape[1] + known.shape[1] + TIME_WIDTH
        weights = draw("net", [wide, self.hidden, self.hidden, clean.shape[1]], generator)
        return {**state, **minimise(weights, loss, len(given), self._plan(), generator)}

    def transform(self, given: Tensor, labels: Tensor, state: State, generator: torch.Generator) -> Tensor:
        """Return one sample for each row, `(rows, m)`."""
        known = condition(state, given, labels)

        kept = alpha_bars(self.timesteps)

        def denoise(noised: Tensor, time: int) -> Tensor:
            times = torch.full((len(noised),), time)
            found = _predict(state, noised, times, known, self.timesteps)
            if self.guidance:
                blind = _predict(state, noised, times, torch.zeros_like(known), self.timesteps)
                found = (1 + self.guidance) * found - self.guidance * blind
            return kept[time].sqrt() * noised - (1 - kept[time]).sqrt() * found

        start = torch.randn(len(given), len(state["missing_mean"]), generator=generator)
        return original(state, ddim(denoise, start, kept, self.sampling_steps))

    def _plan(self) -> Plan:
        return Plan(self.steps, self.batch_size, self.lr)


def alpha_bars(timesteps: int) -> Tensor:
    """Return `(timesteps,)`: how much of the clean values' variance is left at each step, from near 1 to near 0.

    The noise added at a step grows linearly from 1e-4 to 0.02 over 1,000 steps, and in proportion for fewer.
    """
    ends = [min(value * 1000 / timesteps, 0.999) for value in (1e-4, 0.02)]
    return torch.cumprod(1 - torch.linspace(ends[0], ends[1], timesteps, dtype=torch.float64), dim=0).to(torch.float32)


def noise_to(clean: Tensor, noise: Tensor, kept: Tensor) -> Tensor:
    """Return values noised in one go: sqrt(kept) of the clean ones and sqrt(1 - kept) of standard Gaussian noise."""
    return kept.sqrt() * clean + (1 - kept).sqrt() * noise


def velocity(clean: Tensor, noise: Tensor, kept: Tensor) -> Tensor:
    """Return sqrt(kept) noise - sqrt(1 - kept) clean: what the network predicts, of one scale at every step."""
    return kept.sqrt() * noise - (1 - kept).sqrt() * clean


def ddim(denoise: Denoise, start: Tensor, kept: Tensor, steps: int) -> Tensor:
    """Walk `(rows, m)` standard Gaussian values back to clean ones over `steps` even steps, adding no noise."""
    times = torch.linspace(len(kept) - 1, 0, steps).round().to(torch.int64).tolist()
    values = start
    for place, time in enumerate(times):
        clean = denoise(values, time)
        noise = (values - kept[time].sqrt() * clean) / (1 - kept[time]).sqrt()
        values = clean if place + 1 == steps else noise_to(clean, noise, kept[times[place + 1]])
    return values


def _predict(weights: State, noised: Tensor, times: Tensor, known: Tensor, timesteps: int) -> Tensor:
    rates = torch.exp(torch.arange(TIME_WIDTH // 2) * (math.log(100.0) / (TIME_WIDTH // 2 - 1)))
    angles = (times[:, None] / timesteps) * rates
    return run(weights, "net", torch.cat([noised, known, angles.sin(), angles.cos()], dim=1))
