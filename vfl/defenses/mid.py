"""A variational bottleneck: the network is charged for what its embedding tells about its input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from vfl.defenses._inside import Stream, add_loss, linears
from vfl.defenses._noise import check_between
from vfl.seeds import Seeds
from vfl.types import Role


@dataclass(frozen=True)
class Mid:
    """Mutual information regularisation: an embedding h is replaced by a draw of N(mu(h), sigma(h)^2).

    `weight` (0 to 1e6) times the mean KL to N(0, 1) joins the loss: that mean bounds the information, in nats, that
    the draw holds on h. `at` says where: `bottom` at a publisher bounds what it sends about its columns; `top` at the
    advertiser stands before the top, and the gradients sent pass through the draw. Training draws; evaluation takes the
    mean. At `weight` 0 the draw remains. No epsilon follows.

    Reference: T. Zou, Y. Liu, Y.-Q. Zhang, Mutual Information Regularization for Vertical Federated Learning, 2023,
    https://arxiv.org/abs/2301.01142

    Encoder of one linear layer and sigma = softplus(s - 1/2) follow public code; there a decoder of one hidden layer
    comes after the draw, here the next network is the decoder. The top's bottleneck is over all embeddings together.
    """

    weight: float = 0.01
    at: Literal["bottom", "top"] = "bottom"

    binary_only: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_between(0, 1e6, weight=self.weight)

    @property
    def side(self) -> Role:
        """The owner of the network."""
        return Role.PUBLISHER if self.at == "bottom" else Role.ADVERTISER

    @property
    def place(self) -> Literal["bottom", "top"]:
        """The network that `at` names."""
        return self.at

    def wrap(self, module: nn.Module, seeds: Seeds) -> nn.Module:
        """Return the bottom with a bottleneck after it, or the top with one before it."""
        layers = linears(module, "mid")
        width = layers[-1].out_features if self.at == "bottom" else layers[0].in_features
        neck = _Bottleneck(width, self.weight, Stream(seeds, "mid"))
        return _InOrder(module, neck) if self.at == "bottom" else _InOrder(neck, module)


def divergence(mean: Tensor, std: Tensor) -> Tensor:
    """Return the mean over rows of KL(N(mean, std^2) || N(0, 1)) summed over `(rows, dim)` coordinates, in nats."""
    return 0.5 * (mean.square() + std.square() - 1 - 2 * std.log()).sum(dim=1).mean()


class _Bottleneck(nn.Module):
    def __init__(self, width: int, weight: float, stream: Stream) -> None:
        super().__init__()
        self.encoder = nn.Linear(width, 2 * width)
        self.weight, self.stream = weight, stream

    def forward(self, h: Tensor) -> Tensor:
        mean, spread = self.encoder(h).chunk(2, dim=1)
        if not torch.is_grad_enabled():
            return mean
        std = functional.softplus(spread - 0.5)
        drawn = mean + std * torch.randn(mean.shape, generator=self.stream.next())
        return add_loss(drawn, self.weight * divergence(mean, std))


class _InOrder(nn.Module):
    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.first, self.second = first, second

    def forward(self, given: Any) -> Tensor:  # noqa: ANN401 - whatever the first takes
        return self.second(self.first(given))
