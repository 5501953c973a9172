"""What an attack reads of its view, noted read by read, and held against what it declared that it needs.

The log is what an auditor reads: which labels, columns and messages a figure was made from. It does not confine:
code that takes Python apart gets past it. What an attack was not granted is not in its process at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from typing import Any, TypeVar

from vfl.attacks import Needs
from vfl.transcript import AdversaryView, Hints, Holding
from vfl.types import Envelope

_Watched = TypeVar("_Watched", Envelope, Hints, Holding)
LABELS, PRIOR, SCORES = "hints.labels", "hints.prior", "hints.scores"
VICTIM_COLUMNS, VICTIM_MODELS = "hints.columns", "hints.models"
OWN_COLUMNS, OWN_MODELS = "own.columns", "own.models"

_HINTS = {"labels": LABELS, "prior": PRIOR, "scores": SCORES, "score_rows": SCORES}
_OWN = {"batch": OWN_COLUMNS, "bottom": OWN_MODELS, "top": OWN_MODELS}
_VICTIM = {"batch": VICTIM_COLUMNS, "bottom": VICTIM_MODELS, "top": VICTIM_MODELS}
_SWITCHES = {
    "labelled_rows": LABELS,
    "prior": PRIOR,
    "scores": SCORES,
    "known_rows": VICTIM_COLUMNS,
    "victim_models": VICTIM_MODELS,
    "own_features": OWN_COLUMNS,
    "own_models": OWN_MODELS,
}
"""What each need other than envelopes allows to be read. Handles of hinted rows are no answer and free to all."""


def watched(view: AdversaryView, log: set[str]) -> AdversaryView:
    """Return a view of the same that adds to `log` what is read of it: `received.gradient`, `hints.labels`, ...

    An envelope counts as read with its rows or its body, a table or a network when it is reached for.
    """
    hints = view.hints
    victims = {party: _watch(each, _VICTIM, log) for party, each in hints.victims.items()}
    seen = Hints(hints.rows, hints.labels, hints.prior, hints.score_rows, hints.scores, victims)
    return AdversaryView(
        view.parties,
        view.classes,
        sent=tuple(_envelope(each, "sent", log) for each in view.sent),
        received=tuple(_envelope(each, "received", log) for each in view.received),
        hints=_watch(seen, _HINTS, log),
        loss_reduction=view.loss_reduction,
        own={party: _watch(each, _OWN, log) for party, each in view.own.items()},
    )


def declared(needs: Needs) -> frozenset[str]:
    """Return all that an attack with such needs may read."""
    kinds = [f"{way}.{kind.value}" for way in ("received", "sent") for kind in getattr(needs, way)]
    return frozenset([*kinds, *(name for need, name in _SWITCHES.items() if getattr(needs, need))])


def undeclared(log: set[str], needs: Needs) -> list[str]:
    """Return what was read beyond what was declared, sorted."""
    return sorted(log - declared(needs))


def _envelope(envelope: Envelope, way: str, log: set[str]) -> Envelope:
    name = f"{way}.{envelope.kind.value}"
    return _watch(envelope, {"rows": name, "body": name}, log)


def _watch(value: _Watched, names: Mapping[str, str], log: set[str]) -> _Watched:
    """Return a copy of a frozen value that adds to `log` what `names` calls each of its fields that is read."""
    kind = _watcher(type(value))
    copy: Any = object.__new__(kind)
    for each in fields(value):
        object.__setattr__(copy, each.name, getattr(value, each.name))
    object.__setattr__(copy, "_watch", (names, log))
    return copy


@cache
def _watcher(kind: type[Any]) -> type[Any]:
    def read(self: object, name: str) -> Any:  # noqa: ANN401 - a field of any type
        names, log = object.__getattribute__(self, "_watch")
        if name in names:
            log.add(names[name])
        return object.__getattribute__(self, name)

    return type(f"Watched{kind.__name__}", (kind,), {"__getattribute__": read, "_watch": ({}, set())})
