"""A pair of small networks that turn labels into misleading soft labels and back."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn

from vfl.seeds import Seeds

_STEPS, _BATCH, _SHARPNESS = 600, 256, 40.0
_SAFE = 1e-6


class LabelCodec(nn.Module):
    """`encode` takes `(n, classes)` labels to `(n, classes)` soft labels whose likeliest class is another one."""

    def __init__(self, classes: int) -> None:
        """Draw both networks from torch's current stream."""
        super().__init__()
        hidden = 16 * classes
        self.encoder = _small(classes, hidden)
        self.decoder = _small(classes, hidden)

    def encode(self, labels: Tensor) -> Tensor:
        """Return `(n, classes)` soft labels, each row summing to 1."""
        return self.encoder(labels).softmax(dim=1)

    def decode(self, soft: Tensor) -> Tensor:
        """Return `(n, classes)` log-probabilities of the true classes."""
        return self.decoder(soft).log_softmax(dim=1)


@cache
def codec(seeds: Seeds, classes: int, entropy: float) -> LabelCodec:
    """Return the codec of a scope, trained on random labels alone; the same whenever it is asked for.

    The loss is 10 times the decoder's cross-entropy, minus that between soft and true label, minus `entropy` times the
    entropy of the soft labels.
    """
    with seeds.initialising("codec"):
        networks = LabelCodec(classes)
    optimizer = torch.optim.Adam(networks.parameters(), lr=5e-3)
    generator = seeds.torch("codec", "labels")
    corners = torch.eye(classes)
    with torch.enable_grad():
        for _ in range(_STEPS):
            random = (torch.rand((_BATCH, classes), generator=generator) * _SHARPNESS).softmax(dim=1)
            labels = torch.cat([random, corners])
            soft = networks.encode(labels)
            log_soft = soft.clamp(min=_SAFE).log()
            confusion = -(labels * log_soft).sum(dim=1)
            spread = -(soft * log_soft).sum(dim=1)
            restored = -(labels * networks.decode(soft)).sum(dim=1)
            optimizer.zero_grad()
            (10 * restored - confusion.clamp(max=5.0) - entropy * spread).mean().backward()
            optimizer.step()
    return networks.requires_grad_(False)


def _small(classes: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(classes, hidden), nn.ReLU(), nn.Linear(hidden, classes))


class Decoded(nn.Module):
    """A top whose logits are of soft labels while it learns and are decoded where nothing is learned."""

    codec: LabelCodec

    def __init__(self, top: nn.Module, pair: LabelCodec) -> None:
        """Keep the codec outside of the module's state: it follows from the seed."""
        super().__init__()
        self.top = top
        object.__setattr__(self, "codec", pair)

    def forward(self, joined: Tensor) -> Tensor:
        """Return `(rows, 1)` or `(rows, classes)` logits."""
        logits = self.top(joined)
        if torch.is_grad_enabled():
            return logits
        if logits.shape[1] == 1:
            found = self.codec.decode(torch.cat([torch.sigmoid(-logits), torch.sigmoid(logits)], dim=1))
            return found[:, 1:] - found[:, :1]
        return self.codec.decode(logits.softmax(dim=1))
