"""Small networks as named tensors, so that what they learned is an imputer's state; and the loop that fits them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional

Loss = Callable[[dict[str, Tensor], Tensor], Tensor]
"""A loss of weights and the `(batch,)` places of the rows it is taken over."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How long a network is fitted: `steps` of Adam at rate `lr` on `batch_size` rows, each above 0."""

    steps: int
    batch_size: int
    lr: float

    def __post_init__(self) -> None:
        if min(self.steps, self.batch_size, self.lr) <= 0:
            raise ValueError(f"got steps={self.steps}, batch_size={self.batch_size}, lr={self.lr}, allowed above 0")


def draw(name: str, widths: Sequence[int], generator: torch.Generator) -> dict[str, Tensor]:
    """Return weights of linear layers from `widths[0]` to `widths[-1]`, uniform within 1/sqrt(inputs)."""
    found: dict[str, Tensor] = {}
    for layer, (inputs, outputs) in enumerate(pairwise(widths)):
        bound = inputs**-0.5
        for part, shape in (("weight", (outputs, inputs)), ("bias", (outputs,))):
            found[f"{name}.{layer}.{part}"] = (2 * torch.rand(shape, generator=generator) - 1) * bound
    return found


def run(weights: Mapping[str, Tensor], name: str, inputs: Tensor) -> Tensor:
    """Return the network's output, `(rows, widths[-1])`; SiLU between layers and nothing after the last."""
    layers = sum(key.startswith(f"{name}.") for key in weights) // 2
    for layer in range(layers):
        inputs = functional.linear(inputs, weights[f"{name}.{layer}.weight"], weights[f"{name}.{layer}.bias"])
        inputs = functional.silu(inputs) if layer < layers - 1 else inputs
    return inputs


def minimise(
    weights: dict[str, Tensor], loss: Loss, rows: int, plan: Plan, generator: torch.Generator
) -> dict[str, Tensor]:
    """Return the weights after `plan.steps` steps of Adam on batches drawn with replacement, at a rate falling to 0."""
    leaves = {name: value.clone().requires_grad_() for name, value in weights.items()}
    optimizer = torch.optim.Adam(leaves.values(), lr=plan.lr, fused=True)
    for step in range(plan.steps):
        optimizer.param_groups[0]["lr"] = plan.lr * (1 - step / plan.steps)
        optimizer.zero_grad()
        loss(leaves, places(rows, plan.batch_size, generator)).backward()
        optimizer.step()
    return {name: value.detach() for name, value in leaves.items()}


def places(rows: int, batch_size: int, generator: torch.Generator) -> Tensor:
    """Return `(batch,)` places drawn with replacement, never more than there are rows."""
    return torch.randint(rows, (min(rows, batch_size),), generator=generator)


def scale_of(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean and standard deviation of each column, the latter 1 where a column does not vary."""
    spread = values.std(dim=0, correction=0)
    return values.mean(dim=0), torch.where(spread > 1e-6, spread, torch.ones_like(spread))


def scales(given: Tensor, missing: Tensor) -> dict[str, Tensor]:
    """Return the means and deviations of both halves under the names that `standard` reads."""
    found = {"given": scale_of(given), "missing": scale_of(missing)}
    return {
        f"{half}_{part}": value
        for half, pair in found.items()
        for part, value in zip(("mean", "std"), pair, strict=True)
    }


def prepared(given: Tensor, missing: Tensor, labels: Tensor, label: bool) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Return what a state begins with, the condition `(n, d + classes)` and the targets `(n, m)`, both standardised.

    The condition shows the class where `label` is set.
    """
    classes = class_count(labels, label)
    state = {**scales(given, missing), "classes": torch.tensor(classes)}
    return state, condition(state, given, labels), standard(state, "missing", missing)


def condition(state: Mapping[str, Tensor], given: Tensor, labels: Tensor) -> Tensor:
    """Return what a network is shown of rows: their given half, and the class where the state has classes."""
    return with_class(standard(state, "given", given), labels, int(state["classes"]))


def standard(state: Mapping[str, Tensor], half: str, values: Tensor) -> Tensor:
    """Return values in units of their own spread."""
    return (values - state[f"{half}_mean"]) / state[f"{half}_std"]


def original(state: Mapping[str, Tensor], values: Tensor) -> Tensor:
    """Return standardised missing values in the units they were sent in."""
    return values * state["missing_std"] + state["missing_mean"]


def with_class(given: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Return `(rows, d + classes)`: values beside the class as indicators, all 0 where it is not known.

    With 0 classes the values alone.
    """
    if not classes:
        return given
    shown = functional.one_hot(labels.clamp_min(0), classes).to(given.dtype) * (labels >= 0)[:, None]
    return torch.cat([given, shown], dim=1)


def class_count(labels: Tensor, wanted: bool) -> int:
    """Return how many classes a condition shows: 0 where they are not wanted."""
    return int(labels.max()) + 1 if wanted else 0
