"""What the sealed channel and checkpoints cost a training round of 1024 x 64, as a ratio to rounds without them."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from experiments.bench.figures import Figure, in_turns
from experiments.bench.throughput import Silent, configuration, endless, play_rounds
from experiments.plan import coordinator_plan, open_world, party_specs, with_credentials
from experiments.schema import Config
from parties.local import local_grid
from vfl.coordinator import Coordinator, Fit
from vfl.grid import PartyGrid

BATCH = 1024


def measure(repeats: int, seconds: float) -> list[Figure]:
    """Return the figures of both; 1 is no cost at all, 0.95 is one of 5 %."""
    torch.set_num_threads(1)
    with TemporaryDirectory() as folder:
        return [_channel(repeats, seconds), _checkpoint(Path(folder), repeats)]


def _grid(config: Config, folder: Path | None) -> PartyGrid:
    return local_grid(with_credentials(config, party_specs(config, open_world(config), folder)), config.transport)


def _channel(repeats: int, seconds: float) -> Figure:
    plain = configuration("W0", BATCH, "local")
    sealed = configuration("W0", BATCH, "local", wire={"channel": "on"})
    with_, without = _grid(sealed, None), _grid(plain, None)
    try:
        name = f"overhead/channel/{BATCH}x64"
        return in_turns(name, play_rounds(with_, sealed), play_rounds(without, plain), repeats, seconds)
    finally:
        with_.close()
        without.close()


def _checkpoint(folder: Path, repeats: int) -> Figure:
    config = configuration("W0", BATCH, "local")
    every = config.train.checkpoint_every
    grid = _grid(config, folder)
    try:
        work, reference = _rounds(grid, config, every)
        return in_turns(f"overhead/checkpoint/every {every}", work, reference, repeats, 0.01)
    finally:
        grid.close()


def _rounds(grid: PartyGrid, config: Config, every: int) -> tuple[Callable[[], int], Callable[[], int]]:
    """Return two calls that play `every` rounds, the first with a checkpoint at their end."""
    plan = coordinator_plan(config)
    coordinator = Coordinator(grid, plan, Fit(), Silent())
    coordinator.begin()
    steps = endless(config, coordinator.fit.rows(plan.phases[0].pool))

    def play() -> int:
        played = list(itertools.islice(steps, every))
        for step in played:
            coordinator.play(plan.phases[0].hops, step)
        return sum(step.size for step in played)

    def play_and_keep() -> int:
        samples = play()
        coordinator.checkpoint()
        return samples

    return play_and_keep, play
