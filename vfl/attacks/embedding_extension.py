"""Embedding extension: a publisher hides where the label is in its embedding beside a decoy that varies more."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal, cast

import torch
from torch import Tensor, nn

from vfl.attacks import Guess, Needs
from vfl.attacks._heads import beside_controls, classify
from vfl.attacks._own import embeddings, without_training
from vfl.seeds import Seeds
from vfl.transcript import AdversaryView
from vfl.types import Batch, Role

OWN = Seeds(b"embedding extension")
"""The attacker's own randomness: the decoy of a row is the same whenever the row is sent, as a column's would be."""

DRAWS = 4096
"""Decoys that are drawn; a row's handle says which is its own."""


@dataclass(frozen=True)
class EmbeddingExtension:
    """Fills `share` of the coordinates it sends with noise of spread `decoy_std`, and reads the label in the others.

    A defense that asks of the whole embedding that distances between rows tell nothing of the label (`dcor` with
    `protects: labels`) sees distances that the decoy makes, is content, and leaves the other coordinates free to learn
    it. The attacker is a publisher that tampers with its own network and knows the labels of `labelled_rows` rows; as
    `model_completion` it fits a linear head for `steps` steps, on the coordinates that are no decoy. Known rows are not
    scored. Controls fit the head on the network before training and on the publisher's own columns.

    Reference: Y. He et al., LabObf, a label protection scheme for split learning, 2024,
    https://arxiv.org/abs/2405.17042

    The paper describes the idea; that the decoy takes coordinates of a given width, and is noise, is ours.
    """

    labelled_rows: int = 40
    share: float = 0.5
    decoy_std: float = 10.0
    steps: int = 600

    place: ClassVar[Literal["bottom", "top"]] = "bottom"
    side: ClassVar[Role] = Role.PUBLISHER
    binary_only: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.labelled_rows < 2:
            raise ValueError(f"labelled_rows: got {self.labelled_rows}, allowed from 2; 40 are usual")
        if not 0 < self.share < 1:
            raise ValueError(f"share: got {self.share}, allowed above 0 and below 1; the rest carries the label")
        if not (math.isfinite(self.decoy_std) and self.decoy_std > 0):
            raise ValueError(f"decoy_std: got {self.decoy_std}, allowed any number above 0; 10 outweighs the rest")
        if self.steps < 1:
            raise ValueError(f"steps: got {self.steps}, allowed from 1; a few hundred suffice for one layer")

    @property
    def needs(self) -> Needs:
        """The publisher's own columns and network, labelled rows, and a run that it took part in."""
        return Needs(own_features=True, own_models=True, labelled_rows=self.labelled_rows, active=True)

    def wrap(self, module: nn.Module, seeds: Seeds) -> nn.Module:
        """Return the bottom, whose last coordinates are a decoy from now on."""
        del seeds

        def extend(_: nn.Module, inputs: tuple[object, ...], h: Tensor) -> Tensor:
            decoys, rows = self._decoys(h.shape[1]), cast(Batch, inputs[0]).rows
            return torch.cat([h[:, : h.shape[1] - decoys.shape[1]], decoys[rows % DRAWS].to(h.dtype)], dim=1)

        module.register_forward_hook(extend)
        return module

    def infer(self, view: AdversaryView, rng: torch.Generator) -> Guess:
        """Return `(n, classes)` log probabilities of each aligned row that was not hinted."""
        known, labels, classes = view.hints.rows, view.hints.labels, view.classes
        seen = embeddings(view)
        free = seen.shape[1] - self._decoys(seen.shape[1]).shape[1]
        scores = classify(seen[:, :free], known, labels, classes, rng, steps=self.steps)
        return beside_controls(view, scores, without_training(view), rng, self.steps)

    def _decoys(self, width: int) -> Tensor:
        """Return `(DRAWS, k)` decoys for the last k coordinates: `share` of the width, one at least left free."""
        count = min(max(round(self.share * width), 1), width - 1)
        return self.decoy_std * torch.randn(DRAWS, count, generator=OWN.torch("decoys", width))
