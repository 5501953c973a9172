"""Training throughput of the grids, as a ratio to a plain PyTorch loop over the same network and rows."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from experiments.bench.figures import Figure, in_turns
from experiments.plan import coordinator_plan, largest_body_bytes, open_world, party_specs
from experiments.schema import Config
from parties.local import local_grid
from parties.references import Member, members
from parties.settle import Settled
from vfl.coordinator import Coordinator, Fit, phase_steps
from vfl.grid import PartyGrid
from vfl.losses import classification_loss
from vfl.types import Batch, Role, Step

BATCHES = (256, 1024, 4096)
WORKLOADS = {"W0": 0, "W": 26}
STEPS_A_CALL = 16


@dataclass(slots=True)
class Silent:
    """A watcher that hears nothing."""

    def phase(self, name: str, steps: int) -> None:
        """Hear nothing."""

    def advance(self, name: str, done: int, loss: float | None) -> None:
        """Hear nothing."""

    def checkpointed(self, progress: object) -> None:
        """Hear nothing."""


def configuration(workload: str, batch_size: int, backend: str, **changed: Any) -> Config:  # noqa: ANN401 - any section
    """Return the run that is timed: digest on, recorder, channel, defenses and attacks off, one thread a party."""
    fields = {
        "backend": backend,
        "data": {"name": "experiments.bench.workload:Workload", "ids": WORKLOADS[workload]},
        "model": {
            "bottom": {"name": "mlp", "hidden": [128, 128]},
            "embedding_dim": 64,
            "top": {"name": "mlp", "hidden": [64]},
        },
        "train": {"batch_size": batch_size, "epochs": 1},
        "holdout": {"test": 0.01, "valid": 0.0},
        "wire": {"channel": "off"},
        "record": {"every": 0},
        "attack": [],
        "references": [],
    }
    return Config.model_validate({**fields, **changed})


def measure(workload: str, batch_size: int, backend: str, repeats: int, seconds: float) -> Figure:
    """Return one figure: rounds over a grid against the plain loop, timed in turns in this process."""
    config = configuration(workload, batch_size, backend)
    world = open_world(config)
    specs = party_specs(config, world, None)
    if backend == "local":
        grid = local_grid(specs, config.transport)
    else:
        from parties.ray import ray_grid

        grid = ray_grid(specs, config.transport, largest_body_bytes(config, world))
    torch.set_num_threads(1)
    try:
        rounds = play_rounds(grid, config)
        loop = plain_loop(config)
        return in_turns(f"throughput/{backend}/{workload}/{batch_size}", rounds, loop, repeats, seconds)
    finally:
        grid.close()


def play_rounds(grid: PartyGrid, config: Config) -> Callable[[], int]:
    """Return a call that plays some rounds and returns how many samples they trained on."""
    plan = coordinator_plan(config)
    coordinator = Coordinator(grid, plan, Fit(), Silent())
    coordinator.begin()
    rows = coordinator.fit.rows(plan.phases[0].pool)
    steps = endless(config, rows)

    def work() -> int:
        played = list(itertools.islice(steps, STEPS_A_CALL))
        for step in played:
            coordinator.play(plan.phases[0].hops, step)
        return sum(step.size for step in played)

    return work


def plain_loop(config: Config) -> Callable[[], int]:
    """Return a call that trains the same network by a plain loop over slices, with the same fused Adam."""
    world = open_world(config)
    specs = [spec for spec in party_specs(config, world, None) if spec.role != Role.REFEREE]
    rows, found = _whole(config, specs)
    advertiser = specs[-1]
    top = advertiser.model.build_top(sum(member.width for member in found), 2, advertiser.seeds)
    bottoms = [member.bottom for member in found if member.bottom is not None]
    optimizer = advertiser.train.options().make_optimizer(nn.ModuleList([*bottoms, top]).parameters())
    steps = endless(config, rows)
    batches: dict[int, list[Batch]] = {}

    def whole(step: Step) -> list[Batch]:
        if step.epoch not in batches:
            batches.clear()
            full = Step(0, "train", step.pool, epoch=step.epoch, start=0, size=rows, shuffle=True)
            batches[step.epoch] = [member.rows.batch(full) for member in found]
        return batches[step.epoch]

    def train(step: Step) -> int:
        part = slice(step.start, step.start + step.size)
        taken = [Batch(b.rows, b.numeric[part], b.categorical[part], b.labels) for b in whole(step)]
        embeddings = [bottom(batch) for bottom, batch in zip(bottoms, taken, strict=True)]
        labels = taken[-1].labels
        assert labels is not None
        loss = classification_loss(top(torch.cat(embeddings, dim=1)), labels[part])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return step.size

    return lambda: sum(train(step) for step in itertools.islice(steps, STEPS_A_CALL))


def _whole(config: Config, specs: list[Any]) -> tuple[int, list[Member]]:
    cut = specs[0].shard.cut
    pools = torch.from_numpy(cut.pools()).to(torch.int64)
    order = torch.argsort(pools, stable=True)
    sizes = tuple(int((pools == code).sum()) for code in range(3))
    from vfl.registry import build

    labels = torch.from_numpy(build("data", config.data.member).labels(None))[order]
    return sizes[0], members(specs, Settled(order, (sizes[0], sizes[1], sizes[2])), labels)


def endless(config: Config, rows: int) -> Iterator[Step]:
    """Yield the steps of a run's training phase, epoch after epoch without end."""
    phase = coordinator_plan(config).phases[0]
    for epoch in itertools.count():
        for step, _ in phase_steps(phase, rows):
            yield Step(0, step.phase, step.pool, epoch=epoch, start=step.start, size=step.size, shuffle=True)
