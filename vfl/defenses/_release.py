"""What a noised message is about, for defenses that work on either kind."""

from __future__ import annotations

from typing import Literal

from vfl.types import Kind, Role

Message = Literal["embedding", "gradient"]


def kinds_of(message: Message) -> frozenset[Kind]:
    """Return the kind of envelope that carries it."""
    return frozenset({Kind.EMBEDDING if message == "embedding" else Kind.GRADIENT})


def side_of(message: Message) -> Role:
    """Return the role that sends it."""
    return Role.PUBLISHER if message == "embedding" else Role.ADVERTISER


def unit_of(message: Message) -> str:
    """Return what a release of it protects."""
    if message == "embedding":
        return "own columns of a row, given the bottom's weights"
    return "label of a training row, given the top's weights"
