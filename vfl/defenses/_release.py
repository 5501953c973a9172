"""What a noised message is about, for defenses that work on either kind."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from vfl.privacy.ledger import Plan
from vfl.types import Kind, Role

Message = Literal["embedding", "gradient"]


def kinds_of(message: Message) -> frozenset[Kind]:
    """Return the kind of envelope that carries it."""
    return frozenset({Kind.EMBEDDING if message == "embedding" else Kind.GRADIENT})


def side_of(message: Message) -> Role:
    """Return the role that sends it."""
    return Role.PUBLISHER if message == "embedding" else Role.ADVERTISER


def row_limit(message: Message, body: Tensor, limit: float) -> float:
    """Return the limit of a row as it is sent: a gradient of a mean loss carries the factor 1/rows."""
    return limit / max(len(body), 1) if message == "gradient" else limit


def releases(message: Message, plan: Plan) -> int:
    """Return how often a plan releases something about a row: an epoch each, a gradient to every publisher."""
    return plan.epochs * (plan.receivers if message == "gradient" else 1)


def unit_of(message: Message) -> str:
    """Return what a release of it protects."""
    if message == "embedding":
        return "own columns of a training row, given the bottom's weights"
    return "label of a training row, given the top's weights"
