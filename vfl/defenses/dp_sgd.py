"""A publisher's bottom learns from clipped and noised per-sample gradients, taken across the cut."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from vfl.defenses._inside import Stream
from vfl.defenses._noise import check_positive
from vfl.errors import ConfigError
from vfl.privacy import gaussian
from vfl.privacy.ledger import Plan, Spend
from vfl.seeds import Seeds
from vfl.types import Role


@dataclass(frozen=True)
class DpSgd:
    """Clips each row's gradient of the bottom's weights to `clip_l2` and adds Gaussian noise to their sum.

    Noise has std `noise_multiplier` `clip_l2` (both above 0) on the sum over a batch, and all is divided by the rows as
    the mean loss is. Norms are exact and come from the layers' inputs and output gradients (ghost clipping), so no
    gradient of single rows is ever held. A batch's rows are known to the other side and each row is in one batch an
    epoch, so one epoch is one release of sensitivity 2 `clip_l2` (a row replaced), mu = 2 / `noise_multiplier`, and
    epochs compose exactly; no amplification by sampling is claimed.

    It protects a publisher's columns from whoever sees the bottom's *weights*, taking the gradients it was sent as
    given. It does not protect embeddings, which leave bare; the advertiser's top learns from those and answers with
    gradients for other rows. Together with `clipped_gaussian` on embeddings both ways are covered.

    Reference: M. Abadi, A. Chu, I. Goodfellow, H. B. McMahan, I. Mironov, K. Talwar, L. Zhang, Deep Learning with
    Differential Privacy, CCS 2016, https://arxiv.org/abs/1607.00133

    The paper samples batches by independent coins and gains from that; ours cannot. Norms as in: X. Li, F. Tramer,
    P. Liang, T. Hashimoto, Large Language Models Can Be Strong Differentially Private Learners, ICLR 2022. Encoders
    and vocabularies are fitted on the raw columns beforehand and are outside the guarantee.
    """

    noise_multiplier: float = 1.0
    clip_l2: float = 1.0

    side: ClassVar[Role] = Role.PUBLISHER
    binary_only: ClassVar[bool] = False
    place: ClassVar[Literal["bottom"]] = "bottom"

    def __post_init__(self) -> None:
        check_positive(noise_multiplier=self.noise_multiplier, clip_l2=self.clip_l2)

    def wrap(self, module: nn.Module, seeds: Seeds) -> nn.Module:
        """Return the bottom whose backward clips and noises. Raises `ConfigError` for layers without exact norms."""
        return PrivateGradients(module, self.clip_l2, self.noise_multiplier, Stream(seeds, "dp_sgd"))

    def ledger(self, plan: Plan) -> tuple[Spend, ...]:
        """Return what all epochs spend of one row's columns, seen through the weights."""
        mu = gaussian.composed([2 / self.noise_multiplier] * plan.epochs)
        unit = "own columns of a training row in the bottom's weights, given the gradients received"
        return (Spend(unit, "weights of the bottom", mu=mu),)


class PrivateGradients(nn.Module):
    """A network of linear and embedding layers whose weights are given clipped and noised gradients by any backward.

    The gradient handed to `backward` on its `(rows, dim)` output must carry the factor 1/rows, and its row i must
    depend on row i alone.
    """

    def __init__(self, network: nn.Module, clip_l2: float, noise_multiplier: float, stream: Stream) -> None:
        """Watch the layers of `network`, which is used as it is."""
        super().__init__()
        self.network, self.clip_l2, self.noise_multiplier, self.stream = network, clip_l2, noise_multiplier, stream
        self._passed: list[tuple[nn.Module, Tensor, Tensor]] = []
        self._rows = 0
        for layer in _parametric(network):
            layer.register_forward_hook(self._note)
        for parameter in network.parameters():
            parameter.register_post_accumulate_grad_hook(self._noise)

    def forward(self, batch: Any) -> Tensor:  # noqa: ANN401 - whatever the network takes
        """Return the network's output; its gradient will be scaled row by row before it goes on."""
        self._passed = []
        embedding = self.network(batch)
        if not torch.is_grad_enabled():
            self._passed = []
            return embedding
        self._rows, passed = len(embedding), self._passed
        self._passed = []
        if len({layer for layer, _, _ in passed}) < len(passed):
            raise ConfigError("got a bottom that uses a layer twice, allowed each once with dp_sgd; use mlp")
        sent = embedding.view_as(embedding)
        sent.register_hook(partial(self._clipped, embedding, passed))
        return sent

    def _note(self, layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        self._passed.append((layer, inputs[0], output))

    def _clipped(self, embedding: Tensor, passed: list[tuple[nn.Module, Tensor, Tensor]], gradient: Tensor) -> Tensor:
        outputs = [output for _, _, output in passed]
        found = torch.autograd.grad(embedding, outputs, gradient, retain_graph=True)
        squares = [_square(layer, given, back) for (layer, given, _), back in zip(passed, found, strict=True)]
        norms = torch.stack(squares).sum(dim=0).sqrt()
        limit = self.clip_l2 / self._rows
        return gradient * (limit / norms.clamp(min=torch.finfo(norms.dtype).tiny)).clamp(max=1.0)[:, None]

    def _noise(self, parameter: Tensor) -> None:
        if parameter.grad is not None:
            noise = torch.randn(parameter.shape, generator=self.stream.next())
            parameter.grad += self.noise_multiplier * self.clip_l2 / self._rows * noise


def _parametric(network: nn.Module) -> list[nn.Module]:
    """Return the layers that hold weights; refuse those whose per-sample norms are not known here."""
    found = [part for part in network.modules() if any(True for _ in part.parameters(recurse=False))]
    for layer in found:
        plain = isinstance(layer, nn.Linear) or (isinstance(layer, nn.Embedding) and not layer.scale_grad_by_freq)
        if not plain:
            name = type(layer).__name__
            raise ConfigError(f"got a bottom with {name}, allowed linear and embedding layers with dp_sgd; use mlp")
    return found


def _square(layer: nn.Module, given: Tensor, back: Tensor) -> Tensor:
    """Return `(rows,)` squared lengths of each row's gradient of one layer's weights."""
    flows = back.reshape(len(back), -1, back.shape[-1])
    if isinstance(layer, nn.Embedding):
        ids = given.flatten(1)
        alike = (ids[:, :, None] == ids[:, None, :]).to(flows.dtype)
    else:
        places = given.reshape(len(given), -1, given.shape[-1])
        alike = places @ places.transpose(1, 2) + len(list(layer.parameters(recurse=False))) - 1
    return (alike * (flows @ flows.transpose(1, 2))).sum(dim=(1, 2)).clamp(min=0)
