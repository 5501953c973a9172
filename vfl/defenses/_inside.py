"""What defenses inside a network share: draws of their own, an added loss, and where the layers are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

from vfl.errors import ConfigError
from vfl.seeds import Seeds


class Stream(nn.Module):
    """Generators one after another, the same after a checkpoint: how many were taken is part of the state."""

    taken: Tensor

    def __init__(self, seeds: Seeds, name: str) -> None:
        """Start at the first."""
        super().__init__()
        self._seeds, self._name = seeds, name
        self.register_buffer("taken", torch.zeros((), dtype=torch.int64))

    def next(self) -> torch.Generator:
        """Return the next generator."""
        generator = self._seeds.torch(self._name, int(self.taken))
        self.taken += 1
        return generator


class _Added(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, output: Tensor, loss: Tensor) -> Tensor:  # noqa: ANN401 - torch's own context
        return output.view_as(output)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:  # noqa: ANN401 - torch's own types
        return gradients[0], torch.ones((), dtype=gradients[0].dtype)


class _Reversed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, weight: float) -> Tensor:  # noqa: ANN401 - torch's own context
        ctx.weight = weight
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:  # noqa: ANN401 - torch's own types
        return -ctx.weight * gradients[0], None


def add_loss(output: Tensor, loss: Tensor) -> Tensor:
    """Return `output`; whoever calls backward on it, with whatever gradient, also minimises the scalar `loss`."""
    return cast(Tensor, _Added.apply(output, loss))


def reverse(value: Tensor, weight: float) -> Tensor:
    """Return `value`; its gradient is multiplied by -`weight`: what a loss teaches after it is unlearned before it."""
    return cast(Tensor, _Reversed.apply(value, weight))


def linears(module: nn.Module, name: str) -> list[nn.Linear]:
    """Return a network's linear layers in order. Raises `ConfigError` where it has none, for the defense `name`."""
    found = [part for part in module.modules() if isinstance(part, nn.Linear)]
    if not found:
        raise ConfigError(f"got a network without a linear layer, allowed one with some for {name!r}; use mlp")
    return found


def replace_layer(module: nn.Module, old: nn.Module, make: Callable[[], nn.Module]) -> nn.Module:
    """Return the network with one layer replaced in place; a network that is the layer itself is replaced whole."""
    if module is old:
        return make()
    for parent in module.modules():
        for name, child in parent.named_children():
            if child is old:
                setattr(parent, name, make())
                return module
    raise ValueError("the layer is not in the network")
