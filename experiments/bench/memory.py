"""Peak memory of a whole training run in process, against the bytes of the table that it trains on."""

from __future__ import annotations

import subprocess
import sys

from experiments.bench.figures import Figure

ROWS = (10_000, 100_000, 1_000_000)
COLUMNS, BYTES = 34, 4
RUN = """
import resource, sys
from pathlib import Path
from experiments.bench.throughput import configuration, open_grid, play_rounds
data = {"name": "experiments.bench.workload:Workload", "rows": int(sys.argv[1])}
config = configuration("W0", 1024, "local", data=data)
with open_grid(config, Path()) as grid:
    play_rounds(grid, config)()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def measure() -> list[Figure]:
    """Return peak MB by rows, each in a process of its own, and bytes a row between the last two beside the table's."""
    peaks = [_peak_mb(rows) for rows in ROWS]
    figures = [
        Figure(f"memory/rows/{rows}", peak, "MB", rows * COLUMNS * BYTES / 2**20, None, 1)
        for rows, peak in zip(ROWS, peaks, strict=True)
    ]
    a_row = (peaks[-1] - peaks[-2]) * 2**20 / (ROWS[-1] - ROWS[-2])
    return [*figures, Figure("memory/row", a_row, "bytes", COLUMNS * BYTES, COLUMNS * BYTES / a_row, 1)]


def _peak_mb(rows: int) -> float:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", RUN, str(rows)], check=True, capture_output=True, text=True, timeout=600
    )
    return float(done.stdout)
