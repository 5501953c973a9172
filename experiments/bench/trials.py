"""What a trial of a sweep costs beside the training in it, and what an attack costs beside reading its view."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from experiments.axes import read_sweep
from experiments.bench.figures import Figure, durations, seconds
from experiments.bench.throughput import Central, endless
from experiments.progress import Silent
from experiments.schema import Config
from experiments.sweep import resolve, sweep
from vfl.attacks import Attack
from vfl.registry import build, names
from vfl.transcript import AdversaryView, Hints
from vfl.types import Envelope, Kind

SWEEP = """
base:
  data: breast_cancer
  train: {epochs: 5, batch_size: 64}
  attack: []
  record: {every: 0}
  references: []
axes:
- seed: [0, 1, 2, 3, 4, 5, 6, 7]
"""
STEPS, ROWS, DIM = 200, 1024, 64


def measure_sweep(workers: int) -> list[Figure]:
    """Return seconds a trial over eight small trials, the start of Ray in it, beside plain loops of the same."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "sweep.yaml"
        path.write_text(SWEEP, encoding="utf-8")
        trials = [each.trial for each in resolve(read_sweep(path), str(path))]
        ours = seconds(lambda: sweep(trials, Path(folder) / "out", workers, False, Silent()))
        plain = seconds(lambda: [_train(trial.config) for trial in trials])
    count = len(trials)
    return [Figure(f"sweep/trial/{workers} workers", ours / count, "s", plain / count, plain / ours, 1)]


def _train(config: Config) -> None:
    from experiments.plan import open_world, party_specs

    shard = party_specs(config, open_world(config), None)[0].shard
    assert shard is not None
    pools = torch.from_numpy(shard.cut.pools()).to(torch.int64)
    central = Central.of(config, torch.argsort(pools, stable=True), pools)
    optimizer = central.optimizer(central.modules.parameters())
    for step in endless(config, central.rows):
        if step.epoch >= config.train.epochs:
            return
        optimizer.zero_grad()
        central.loss(step).backward()
        optimizer.step()


def measure_attacks(repeats: int) -> list[Figure]:
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
                lambda attack=attack, view=view: attack.infer(view, torch.Generator().manual_seed(0)),
                lambda view=view: view.gradients(),
                repeats,
            )
        )
    return figures


def _view(labelled: int) -> AdversaryView:
    stream = torch.Generator().manual_seed(0)
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
