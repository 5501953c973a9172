"""Training throughput of the grids, as a ratio to a plain PyTorch loop over the same network and rows."""

from __future__ import annotations

import hashlib
import itertools
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from experiments.bench.figures import Figure, in_turns
from experiments.plan import coordinator_plan, largest_body_bytes, open_world, party_specs, with_credentials
from experiments.schema import Config
from parties.local import local_grid
from parties.references import Member, members
from parties.settle import Settled
from vfl.coordinator import Coordinator, Fit, phase_steps
from vfl.data.cut import Shard
from vfl.grid import PartyGrid
from vfl.losses import classification_loss
from vfl.registry import build
from vfl.types import Batch, Pool, Role, Step

BATCHES = (256, 1024, 4096)
WORKLOADS: dict[str, dict[str, int]] = {
    "W0": {},
    "W": {"ids": 26},
    "fedads": {"numeric": 0, "ids": 7, "own_ids": 16},
}
"""What each workload changes of `bench.workload`: `fedads` has the columns of FedAds, all categorical."""
STALE = {"stale": 1, "checkpoint_every": 0}
ENDLESS = 1_000_000
"""Epochs of a run that is timed for as long as it takes: parties play no round beyond their plan."""
BACKENDS: dict[str, dict[str, Any]] = {
    "split": {},
    "split+digest": {},
    "split+messages": {},
    "apart": {},
    "local": {},
    "local_stale": {"train": STALE},
    "ray": {},
    "ray_stale": {"train": STALE},
    "ray+default": {"wire": {"channel": "auto"}, "record": {"every": 1, "max_mb": 100_000}},
}
"""The grid is the name's start; a stale one sends gradients a round late, `+default` records and seals. `split` has no
grid: it bounds what one thread can reach, see `split_loop` and `bounds`; `apart` bounds what two processes can."""
NAMED = (
    *itertools.product(("local", "ray", "ray_stale"), ("W0", "W"), BATCHES),
    ("ray+default", "W0", 1024),
)
"""The figures that a comparison of versions wants: backend, workload, batch."""
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
    special = BACKENDS[backend]
    fields = {
        "backend": "ray" if backend.startswith("ray") else "local",
        "data": {"name": "experiments.bench.workload:Workload", **WORKLOADS[workload]},
        "model": {
            "bottom": {"name": "mlp", "hidden": [128, 128]},
            "embedding_dim": 64,
            "top": {"name": "mlp", "hidden": [64]},
        },
        "holdout": {"test": 0.01, "valid": 0.0},
        "wire": {"channel": "off"},
        "record": {"every": 0},
        "attack": [],
        "references": [],
        **special,
        "train": {"batch_size": batch_size, "epochs": ENDLESS, **special.get("train", {})},
    }
    return Config.model_validate({**fields, **changed})


def measure(workload: str, batch_size: int, backend: str, repeats: int, seconds: float) -> Figure:
    """Return one figure: rounds over a grid against the plain loop, timed in turns in this process."""
    config = configuration(workload, batch_size, backend)
    name = f"throughput/{backend}/{workload}/{batch_size}"
    if backend == "apart" or backend.startswith("split"):
        torch.set_num_threads(1)
        with _bound(config, backend) as work:
            return in_turns(name, work, plain_loop(config), repeats, seconds)
    with tempfile.TemporaryDirectory() as folder, open_grid(config, Path(folder)) as grid:
        return in_turns(name, play_rounds(grid, config), plain_loop(config), repeats, seconds)


@contextmanager
def _bound(config: Config, name: str) -> Iterator[Callable[[], int]]:
    from experiments.bench import bounds

    if name == "apart":
        with bounds.side_by_side(config) as work:
            yield work
    elif name == "split+messages":
        yield bounds.message_loop(config)
    else:
        yield split_loop(config, name == "split+digest")


@contextmanager
def open_grid(config: Config, folder: Path) -> Iterator[PartyGrid]:
    """Open the grid of a run, with party folders only where it records, and close it at the end."""
    world = open_world(config)
    specs = with_credentials(config, party_specs(config, world, folder if config.record.every else None))
    if config.backend == "local":
        grid = local_grid(specs, config.transport)
    else:
        from parties.ray import ray_grid

        grid = ray_grid(specs, config.transport, largest_body_bytes(config, world))
    torch.set_num_threads(1)
    try:
        yield grid
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
        first = coordinator.fit.progress.step
        played = [replace(step, index=first + at) for at, step in enumerate(itertools.islice(steps, STEPS_A_CALL))]
        for _ in grid.stream(plan.phases[0].hops, played):
            coordinator.fit.progress.step += 1
        return sum(step.size for step in played)

    return work


def plain_loop(config: Config) -> Callable[[], int]:
    """Return a call that trains the same network by a plain loop over slices, with torch's own fused Adam."""
    central = central_of(config)
    optimizer = torch.optim.Adam(central.modules.parameters(), lr=config.train.lr, fused=True)
    steps = endless(config, central.rows)

    def train(step: Step) -> int:
        loss = central.loss(step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return step.size

    return lambda: sum(train(step) for step in itertools.islice(steps, STEPS_A_CALL))


def split_loop(config: Config, digest: bool) -> Callable[[], int]:
    """Return a call that trains the same network cut in three, in one thread, with no message and no party.

    Three backward calls, an optimizer a side and one copy of each body: what any split of the network costs. `digest`
    adds SHA-256 over both bodies.
    """
    central = central_of(config)
    bottoms, top = central.bottoms, central.top
    theirs = central.optimizer(bottoms[0].parameters())
    ours = central.optimizer([*bottoms[1].parameters(), *top.parameters()])
    steps = endless(config, central.rows)
    link = hashlib.sha256()

    def sent(body: Tensor) -> Tensor:
        copy = body.detach().clone()
        if digest:
            link.update(copy.numpy().data)
        return copy

    def train(step: Step) -> int:
        first, second, labels = central.batches(step)
        embedding, own = bottoms[0](first), bottoms[1](second)
        leaves = [sent(embedding).requires_grad_(), own.detach().requires_grad_()]
        ours.zero_grad()
        classification_loss(top(torch.cat(leaves, dim=1)), labels).backward()
        theirs.zero_grad()
        embedding.backward(sent(cast(Tensor, leaves[0].grad)))
        theirs.step()
        own.backward(leaves[1].grad)
        ours.step()
        return step.size

    return lambda: sum(train(step) for step in itertools.islice(steps, STEPS_A_CALL))


def central_of(config: Config) -> Central:
    """Return the networks and rows of a run in the order of its holdout."""
    shard = cast(Shard, party_specs(config, open_world(config), None)[0].shard)
    pools = torch.from_numpy(shard.cut.pools()).to(torch.int64)
    return Central.of(config, torch.argsort(pools, stable=True), pools)


@dataclass(slots=True)
class Central:
    """The networks of a run and the rows of all its parties in one place, without any grid."""

    rows: int
    bottoms: list[nn.Module]
    top: nn.Module
    optimizer: Callable[[Iterable[nn.Parameter]], Optimizer]
    _members: list[Member]
    _epoch: tuple[int, list[Batch]] = (-1, [])

    @classmethod
    def of(cls, config: Config, order: Tensor, pools: Tensor) -> Central:
        """Return it for rows in this order, `(n,)` ids with the training rows first; `pools` `(n,)` counts them."""
        specs = [spec for spec in party_specs(config, open_world(config), None) if spec.role != Role.REFEREE]
        train, valid, test = (int((pools == code).sum()) for code in range(3))
        labels = torch.from_numpy(build("data", config.data.member).labels(None))[order]
        found = members(specs, Settled(order, (train, valid, test)), labels)
        advertiser = specs[-1]
        top = advertiser.model.build_top(sum(member.width for member in found), 2, advertiser.seeds)
        bottoms = [member.bottom for member in found if member.bottom is not None]
        return cls(train, bottoms, top, advertiser.train.options().make_optimizer, found)

    @property
    def modules(self) -> nn.ModuleList:
        """All networks."""
        return nn.ModuleList([*self.bottoms, self.top])

    def epoch(self, epoch: int) -> list[Batch]:
        """Return all training rows of every party in the order of an epoch."""
        if self._epoch[0] != epoch:
            full = Step(0, "train", Pool.TRAIN, epoch=epoch, start=0, size=self.rows, shuffle=True)
            self._epoch = (epoch, [member.rows.batch(full) for member in self._members])
        return self._epoch[1]

    def loss(self, step: Step) -> Tensor:
        """Return the loss of a step's rows, in one graph over all networks."""
        *taken, labels = self.batches(step)
        embeddings = [bottom(batch) for bottom, batch in zip(self.bottoms, taken, strict=True)]
        return classification_loss(self.top(torch.cat(embeddings, dim=1)), labels)

    def batches(self, step: Step) -> tuple[*tuple[Batch, ...], Tensor]:
        """Return each party's rows of a step, and the labels."""
        part, whole = slice(step.start, step.start + step.size), self.epoch(step.epoch)
        taken = [Batch(b.rows[part], b.numeric[part], b.categorical[part]) for b in whole]
        return (*taken, cast(Tensor, whole[-1].labels)[part])


def endless(config: Config, rows: int) -> Iterator[Step]:
    """Yield the steps of a run's training phase, epoch after epoch, longer than anyone waits."""
    phase = coordinator_plan(config).phases[0]
    for step, _ in phase_steps(phase, rows):
        yield step
