"""What defenses that inspect received messages share: who receives what, and the check of `act`."""

from __future__ import annotations

import torch
from torch import Tensor

from vfl.defenses import Act, Verdict
from vfl.defenses._release import Message
from vfl.types import Role

ACTS = ("report", "repair", "refuse")


def receiver_of(message: Message) -> Role:
    """Return the role that such a message reaches."""
    return Role.ADVERTISER if message == "embedding" else Role.PUBLISHER


def check_act(act: Act) -> None:
    """Raise `ValueError` for an `act` that is none."""
    if act not in ACTS:
        raise ValueError(f"act: got {act!r}, allowed {', '.join(ACTS)}; report changes nothing")


def check_warm_up(warm_up: int) -> None:
    """Raise `ValueError` for a warm-up of no batch."""
    if warm_up < 1:
        raise ValueError(f"warm_up: got {warm_up}, allowed whole numbers from 1; 20 batches are moderate")


def check_decay(decay: float) -> None:
    """Raise `ValueError` for a share of the past that never fades or is none."""
    if not 0 <= decay < 1:
        raise ValueError(f"decay: got {decay}, allowed from 0 to below 1; 0 forgets at once, 0.95 in some 20 batches")


def unsuspicious(body: Tensor) -> Verdict:
    """Return the verdict on a message of which nothing can be said."""
    rows = len(body)
    return Verdict(torch.zeros(rows, dtype=torch.float64), torch.zeros(rows, dtype=torch.bool), body)
