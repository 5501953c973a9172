"""A layer whose scale and shift depend on private passports, without which it does not work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from vfl.defenses._inside import linears, replace_layer
from vfl.defenses._noise import check_positive
from vfl.seeds import Seeds
from vfl.types import Role


@dataclass(frozen=True)
class Fedpass:
    """Replaces one linear layer W by gamma * (W x) + beta, both computed from W and secret passports.

    gamma = mean over passports of D(E(W s)), with E and D small networks of one layer and leaky ReLU between, and beta
    the same from other passports. The `passports` (at least 1) of each are drawn once from normal distributions of
    std `std` (above 0) whose means are drawn from -`reach` to `reach` (above 0), and never leave the party. `at` says
    which network: the `bottom` of a publisher (its last layer), or the advertiser's `top` (its first layer). Whoever
    has the weights but no passports has a network that does not work. No epsilon follows.

    Reference: H. Gu, J. Luo, Y. Kang, L. Fan, Q. Yang, FedPass: Privacy-Preserving Vertical Federated Deep Learning
    with Adaptive Obfuscation, IJCAI 2023, https://arxiv.org/abs/2301.12623

    Passports stay the same all through training, as in public code; the paper's choice was not checked. Widths of E
    and D are ours.
    """

    at: Literal["bottom", "top"] = "bottom"
    passports: int = 4
    reach: float = 5.0
    std: float = 1.0

    binary_only: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_positive(passports=self.passports, reach=self.reach, std=self.std)

    @property
    def side(self) -> Role:
        """The owner of the network."""
        return Role.PUBLISHER if self.at == "bottom" else Role.ADVERTISER

    @property
    def place(self) -> Literal["bottom", "top"]:
        """The network that `at` names."""
        return self.at

    def wrap(self, module: nn.Module, seeds: Seeds) -> nn.Module:
        """Return the network with one layer replaced."""
        layer = linears(module, "fedpass")[-1 if self.at == "bottom" else 0]
        return replace_layer(module, layer, lambda: PassportLinear(layer, self._drawn(layer, seeds)))

    def _drawn(self, layer: nn.Linear, seeds: Seeds) -> Tensor:
        generator, shape = seeds.torch("passports"), (2, self.passports, layer.in_features)
        means = (2 * torch.rand((2, 1, layer.in_features), generator=generator) - 1) * self.reach
        return means + self.std * torch.randn(shape, generator=generator)


class PassportLinear(nn.Module):
    """A linear layer scaled and shifted by what its own weights make of `(2, passports, inputs)` secrets."""

    secrets: Tensor

    def __init__(self, linear: nn.Linear, secrets: Tensor) -> None:
        """Take over the layer's weights."""
        super().__init__()
        self.linear = linear
        width = linear.out_features
        self.encode, self.decode = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.register_buffer("secrets", secrets)

    def forward(self, given: Tensor) -> Tensor:
        """Return `(rows, outputs)`."""
        seen = functional.linear(self.secrets, self.linear.weight)
        made = self.decode(functional.leaky_relu(self.encode(seen))).mean(dim=1)
        return made[0] * self.linear(given) + made[1]
