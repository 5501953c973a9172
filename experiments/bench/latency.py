"""What is waited for outside training: the command line's start, a round of few rows, evaluation, the recorder."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from experiments.bench.figures import Figure, durations, in_turns
from experiments.bench.throughput import (
    STEPS_A_CALL,
    Central,
    Silent,
    central_of,
    configuration,
    open_grid,
    plain_loop,
    play_rounds,
)
from experiments.plan import HANDLE_BYTES, coordinator_plan
from vfl.coordinator import Coordinator, Fit
from vfl.store import recorded_bytes
from vfl.types import Batch, Pool

EMPTY_APP = """
import typer
app = typer.Typer()
@app.command()
def one(): pass
@app.command()
def two(): pass
app()
"""
OURS = "from experiments.cli import main; import sys; sys.exit(main(['--help']))"
FEW_ROWS, BATCH = 8, 1024
CHUNKS = 2
"""Files that the transcripts of `STEPS_A_CALL` rounds fill: 16 MB, 8 a file."""


def measure(repeats: int, seconds: float) -> list[Figure]:
    """Return the figures; those of `recorder` are against unrecorded rounds, .95 a cost of 5 %."""
    return [
        help_page(repeats),
        _few_rows(repeats, seconds),
        _evaluation(repeats),
        recorder(repeats, seconds),
        bare_writes(repeats, seconds),
    ]


def help_page(repeats: int) -> Figure:
    """Return how long `vfl --help` takes beside that of a typer app with two commands and nothing else."""

    def start(code: str) -> Callable[[], object]:
        command = [sys.executable, "-c", code, "--help"]
        return lambda: subprocess.run(command, check=True, capture_output=True, timeout=60)

    return durations("latency/help", start(OURS), start(EMPTY_APP), repeats)


def _few_rows(repeats: int, seconds: float) -> Figure:
    config = configuration("W0", FEW_ROWS, "local")
    with open_grid(config, Path()) as grid:
        return in_turns(f"latency/round/{FEW_ROWS}", play_rounds(grid, config), plain_loop(config), repeats, seconds)


def _evaluation(repeats: int) -> Figure:
    """Time the scoring of half of all rows against one forward pass over them in slices of the same size."""
    config = configuration("W0", BATCH, "local", holdout={"test": 0.5, "valid": 0.0})
    with open_grid(config, Path()) as grid:
        coordinator = Coordinator(grid, coordinator_plan(config), Fit(), Silent())
        coordinator.begin()
        central = central_of(config)
        return durations(
            "latency/evaluate", lambda: coordinator.evaluate("test", Pool.TEST), lambda: _forward(central), repeats
        )


def _forward(central: Central) -> None:
    """Score as many rows as the run's test pool holds (half of all, so its training rows serve as well)."""
    whole = central.epoch(0)
    with torch.no_grad():
        for start in range(0, central.rows, 4096):
            part = slice(start, start + 4096)
            taken = [Batch(b.rows[part], b.numeric[part], b.categorical[part]) for b in whole]
            embeddings = [bottom(batch) for bottom, batch in zip(central.bottoms, taken, strict=True)]
            torch.sigmoid(central.top(torch.cat(embeddings, dim=1)))


def recorder(repeats: int, seconds: float) -> Figure:
    """Return recorded rounds against unrecorded ones, both in process."""
    recorded = configuration("W0", BATCH, "local", record={"every": 1, "max_mb": 100_000})
    plain = configuration("W0", BATCH, "local")
    with (
        TemporaryDirectory() as folder,
        open_grid(recorded, Path(folder)) as with_,
        open_grid(plain, Path()) as without,
    ):
        return in_turns(
            f"latency/recorder/{BATCH}", play_rounds(with_, recorded), play_rounds(without, plain), repeats, seconds
        )


def bare_writes(repeats: int, seconds: float) -> Figure:
    """Return unrecorded rounds beside a thread that writes as many bytes to files, against the same rounds alone.

    It bounds what recording can cost where those bytes are kept: they are the same ones each time, and nothing is
    held back, checked or described.
    """
    config = configuration("W0", BATCH, "local")
    width = config.model.embedding_dim
    chunk = bytes(recorded_bytes(1, 1, 2 * BATCH * (4 * width + HANDLE_BYTES)) * STEPS_A_CALL // CHUNKS)
    with TemporaryDirectory() as folder, ThreadPoolExecutor(1) as thread, open_grid(config, Path()) as grid:
        alone, names = play_rounds(grid, config), itertools.count()
        under_way: list[Future[int]] = []

        def work() -> int:
            while under_way:  # what a call before has begun, as a full chunk waits for the one before
                under_way.pop().result()
            under_way.extend(thread.submit((Path(folder) / str(next(names))).write_bytes, chunk) for _ in range(CHUNKS))
            return alone()

        return in_turns(f"latency/recorder/bare/{BATCH}", work, alone, repeats, seconds)
