"""A publisher's embedding is trained against a decoder that wants its columns back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from vfl.defenses._inside import add_loss, linears, reverse
from vfl.defenses._noise import check_between
from vfl.seeds import Seeds
from vfl.types import Role


@dataclass(frozen=True)
class Adversarial:
    """Adversarial representation learning: a decoder learns to rebuild the bottom's input, the bottom to prevent it.

    The decoder sees the embedding and is fitted by squared error to what enters the bottom's first linear layer
    (encoded numbers and id embeddings); its gradient reaches the bottom multiplied by -`weight` (0 to 100). `hidden` is
    the decoder's width (at least 1). Both learn in the same step. The decoder stays at the publisher. How well it
    does says nothing of a fresh attacker, who must be the one that is measured. No epsilon follows.

    Reference: J. Li, A. S. Rakin, X. Chen, Z. He, D. Fan, C. Chakrabarti, ResSFL: A Resistance Transfer Framework for
    Defending Model Inversion Attack in Split Federated Learning, CVPR 2022, https://arxiv.org/abs/2205.04007

    The paper trains a resistant network first and transfers it, on images; ours trains in one go, on columns.
    """

    weight: float = 0.1
    hidden: int = 64

    side: ClassVar[Role] = Role.PUBLISHER
    binary_only: ClassVar[bool] = False
    place: ClassVar[Literal["bottom"]] = "bottom"

    def __post_init__(self) -> None:
        check_between(0, 100, weight=self.weight)
        if self.hidden < 1:
            raise ValueError(f"hidden: got {self.hidden}, allowed whole numbers from 1; 64 is moderate")

    def wrap(self, module: nn.Module, seeds: Seeds) -> nn.Module:
        """Return the bottom beside its opponent."""
        layers = linears(module, "adversarial")
        return _Opposed(module, layers[0], layers[-1].out_features, self)


class _Opposed(nn.Module):
    def __init__(self, bottom: nn.Module, first: nn.Linear, width: int, options: Adversarial) -> None:
        super().__init__()
        self.bottom, self.weight = bottom, options.weight
        hidden, inputs = options.hidden, first.in_features
        self.decoder = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, inputs))
        self._entered: Tensor | None = None
        first.register_forward_pre_hook(self._note)

    def _note(self, layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        self._entered = inputs[0].detach()

    def forward(self, batch: Any) -> Tensor:  # noqa: ANN401 - whatever the network takes
        embedding = self.bottom(batch)
        entered, self._entered = self._entered, None
        if entered is None or not torch.is_grad_enabled():
            return embedding
        rebuilt = self.decoder(reverse(embedding, self.weight))
        return add_loss(embedding, functional.mse_loss(rebuilt, entered))
