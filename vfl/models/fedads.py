"""The network of the FedAds benchmark."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from vfl.models.tabular import TabularBottom, logits, mlp
from vfl.types import Role, TableSchema

FIELD_DIM = 8
HIDDEN = {Role.PUBLISHER: (128,), Role.ADVERTISER: (256,)}


@dataclass(frozen=True, slots=True)
class Fedads:
    """FedAds' sizes by name: fields of 8, one hidden layer of 128 at a publisher and 256 at the advertiser, linear top.

    The widths at the cut are the configuration's, by party: 32 at the publisher and 128 at the advertiser give the
    benchmark's networks, [128, 32] and [256, 128] under one linear layer 160 -> 1.

    The paper was not at hand. These sizes are second-hand: two independent re-implementations quote them alike. That
    fields are joined end to end is one re-implementation's reading; leaky ReLU is inferred from the same group's
    EFLS models; that the layer at the cut has no activation is our own reading.

    Reference: Penghui Wei, Hongjian Dou, Shaoguo Liu, Rongjun Tang, Li Liu, Liang Wang, Bo Zheng, FedAds: A Benchmark
    for Privacy-Preserving CVR Estimation with Vertical Federated Learning, SIGIR 2023,
    https://arxiv.org/abs/2305.08328
    """

    def bottom(self, schema: TableSchema, role: Role, width: int) -> nn.Module:
        """Return a module `Batch -> (rows, width)` of the role's size."""
        hidden = HIDDEN[Role.PUBLISHER if role is Role.PUBLISHER else Role.ADVERTISER]
        return TabularBottom(schema, width, hidden=hidden, field_dim=FIELD_DIM, activation="leaky_relu")

    def top(self, width: int, classes: int) -> nn.Module:
        """Return one linear layer, `(rows, width) -> (rows, 1)` for two classes, `(rows, classes)` for more."""
        return mlp([width, logits(classes)])
