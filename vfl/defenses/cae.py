"""Labels are replaced by soft labels that point to another class, and predictions are decoded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from vfl.defenses import LabelContext
from vfl.defenses._codec import Decoded, codec
from vfl.defenses._noise import check_between
from vfl.seeds import Seeds
from vfl.types import Role


@dataclass(frozen=True)
class Cae:
    """Confusional auto-encoder: trains on encoded labels, and decodes the model's probabilities at evaluation.

    The encoder, trained on random labels alone, gives soft labels whose likeliest class is not the true one; `entropy`
    (0 to 10) asks for soft labels that are less sure of themselves. Attacks that read the class off the gradient find
    the wrong one. The map from class to soft label is the same for every row, so a few labelled rows undo it, and an
    attacker indifferent to the sign is not misled at all with two classes. No epsilon follows.

    Reference: T. Zou, Y. Liu, Y. Kang, W. Liu, Y. He, Z. Yi, Q. Yang, Y. Zhang, Defending Batch-Level Label Inference
    and Replacement Attacks in Vertical Federated Learning, IEEE Transactions on Big Data 2022,
    https://arxiv.org/abs/2112.05409

    Sizes of the networks and weights of the loss follow public code, not the paper. The gain from confusing is capped
    at 5 nats a label, without which a soft label of exactly 0 would be best.
    """

    entropy: float = 1.0

    side: ClassVar[Role] = Role.ADVERTISER
    binary_only: ClassVar[bool] = False
    each_epoch: ClassVar[bool] = False
    place: ClassVar[Literal["top"]] = "top"

    def __post_init__(self) -> None:
        check_between(0, 10, entropy=self.entropy)

    def transform(self, labels: Tensor, ctx: LabelContext) -> Tensor:
        """Return the `(n, classes)` soft labels."""
        pair = codec(ctx.seeds, ctx.classes, self.entropy)
        with torch.no_grad():
            return pair.encode(torch.eye(ctx.classes))[labels]

    def wrap(self, module: nn.Module, seeds: Seeds) -> nn.Module:
        """Return the top with its logits decoded where nothing is learned."""
        return Decoded(module, codec(seeds, _classes(module), self.entropy))


def _classes(top: nn.Module) -> int:
    """Return how many classes a top tells apart, by the bias of its logits."""
    biases = [value for name, value in top.named_parameters() if name.split(".")[-1] == "bias"]
    return max(biases[-1].numel(), 2)
