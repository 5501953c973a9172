"""A publisher's embedding loses random coordinates while it learns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from vfl.defenses._inside import Stream
from vfl.seeds import Seeds
from vfl.types import Role


@dataclass(frozen=True)
class Dropout:
    """Sets each coordinate of a training embedding to zero with chance `rate` (0 to below 1), and scales up the rest.

    What is sent in training holds less of each row's columns, and the network leans on no single coordinate.
    Evaluation sends the whole embedding. No epsilon follows.

    Reference: X. Luo, Y. Wu, X. Xiao, B. C. Ooi, Feature Inference Attack on Model Predictions in Vertical Federated
    Learning, ICDE 2021, https://arxiv.org/abs/2010.10152

    The paper drops inside the model to blunt an attack on scores; ours drops at the cut, where embeddings are seen.
    """

    rate: float = 0.2

    side: ClassVar[Role] = Role.PUBLISHER
    binary_only: ClassVar[bool] = False
    place: ClassVar[Literal["bottom"]] = "bottom"

    def __post_init__(self) -> None:
        if not 0 <= self.rate < 1:
            raise ValueError(f"rate: got {self.rate}, allowed from 0 to below 1; 0.2 is moderate")

    def wrap(self, module: nn.Module, seeds: Seeds) -> nn.Module:
        """Return the bottom with coordinates dropped at its end."""
        return _Dropped(module, self.rate, Stream(seeds, "dropout"))


class _Dropped(nn.Module):
    def __init__(self, bottom: nn.Module, rate: float, stream: Stream) -> None:
        super().__init__()
        self.bottom, self.rate, self.stream = bottom, rate, stream

    def forward(self, batch: Any) -> Tensor:  # noqa: ANN401 - whatever the network takes
        embedding = self.bottom(batch)
        if not torch.is_grad_enabled():
            return embedding
        kept = torch.rand(embedding.shape, generator=self.stream.next()) >= self.rate
        return embedding * kept / (1 - self.rate)
