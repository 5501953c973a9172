"""What an advertiser that looks knows of one publisher: its embeddings, and what the threat model grants of it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vfl.errors import ThreatError
from vfl.transcript import AdversaryView, Holding, Pooled
from vfl.types import PartyId


def victim(view: AdversaryView) -> tuple[PartyId, Holding]:
    """Return the one party under attack with what is known of it: the first by name of those granted.

    Raises `ThreatError` where nothing of any party is granted.
    """
    if not view.hints.victims:
        message = "got no party to learn about, allowed one whose rows or networks are granted"
        raise ThreatError(f"{message}; set threat.hints.known_rows or threat.hints.victim_models", key="threat.hints")
    party = min(view.hints.victims)
    return party, view.hints.victims[party]


def inverting(prior_weight: float, **counts: int) -> None:
    """Raise `ValueError` unless the options of a descent on features are some: counts from 1, a weight from 0."""
    for name, value in counts.items():
        if value < 1:
            raise ValueError(f"{name}: got {value}, allowed any whole number from 1; the default is a start")
    if not (math.isfinite(prior_weight) and prior_weight >= 0):
        raise ValueError(f"prior_weight: got {prior_weight}, allowed any number from 0; 0.001 breaks ties")


def seen_of(view: AdversaryView, party: PartyId) -> tuple[Pooled, Tensor, Tensor]:
    """Return each row's last embedding from a party, the places of rows of known features, and those of the others."""
    aligned = min(len(holding.batch.rows) for holding in view.own.values())
    last = view.incoming(party).below(aligned).last()
    known = torch.isin(last.rows, view.hints.victims[party].batch.rows)
    return last, known.nonzero()[:, 0], (~known).nonzero()[:, 0]


def known_values(values: Tensor, holding: Holding, rows: Tensor) -> Tensor:
    """Return those of `(k, ...)` values, one for each row of the holding, that belong to `rows`, in their order."""
    order = holding.batch.rows.argsort()
    return values[order][torch.searchsorted(holding.batch.rows[order], rows)]
