"""What an attack on the wire alone costs, beside reading its view once."""

from __future__ import annotations

import torch

from experiments.bench.figures import Figure, durations
from vfl.attacks import Attack
from vfl.registry import build, names
from vfl.seeds import Seeds
from vfl.transcript import AdversaryView, Hints
from vfl.types import Envelope, Kind

STEPS, ROWS, DIM = 200, 1024, 64


def measure(repeats: int) -> list[Figure]:
    """Return what each attack on gradients or embeddings alone takes on 204,800 rows, beside pooling them once."""
    figures: list[Figure] = []
    for name in names("attack"):
        attack: Attack = build("attack", name)
        needs = attack.needs
        asks = (needs.own_features, needs.own_models, needs.scores, needs.known_rows, needs.victim_models)
        if any(asks) or not needs.received <= {Kind.GRADIENT} or not needs.sent <= {Kind.EMBEDDING}:
            continue
        view = _view(needs.labelled_rows)
        figures.append(
            durations(
                f"attacks/{name}",
                lambda attack=attack, view=view: attack.infer(view, Seeds(0).torch("attacks")),
                lambda view=view: view.gradients(),
                repeats,
            )
        )
    return figures


def _view(labelled: int) -> AdversaryView:
    stream = Seeds(0).torch("attacks")
    found: dict[Kind, list[Envelope]] = {Kind.GRADIENT: [], Kind.EMBEDDING: []}
    for step in range(STEPS):
        rows = torch.arange(step * ROWS, (step + 1) * ROWS)
        for kind, src, dst in (
            (Kind.EMBEDDING, "publisher", "advertiser"),
            (Kind.GRADIENT, "advertiser", "publisher"),
        ):
            body = torch.randn(ROWS, DIM, generator=stream)
            found[kind].append(Envelope(step, kind, src, dst, rows, body))
    labels = torch.arange(labelled) % 2
    hints = Hints(rows=torch.arange(labelled), labels=labels, prior=torch.tensor([0.5, 0.5]))
    sent, received = tuple(found[Kind.EMBEDDING]), tuple(found[Kind.GRADIENT])
    return AdversaryView(parties=("publisher",), classes=2, sent=sent, received=received, hints=hints)
