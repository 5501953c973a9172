"""Train a configuration in this process, without attacks and references: what studies of utility do many times."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from experiments.plan import coordinator_plan
from experiments.progress import Silent
from experiments.run import RunWatcher
from experiments.schema import Config
from parties.local import local_grid
from parties.spec import PartySpec
from vfl.compat_flwr import COORDINATOR_NODE, new_context
from vfl.coordinator import Fit, server_app


def fit(config: Config, specs: Sequence[PartySpec], folder: Path) -> Fit:
    """Train and test; the parties leave what they leave in `folder`."""
    done = Fit()
    grid = local_grid(specs, config.transport)
    try:
        app = server_app(coordinator_plan(config), done, RunWatcher(folder, Silent()))
        app(grid, new_context(COORDINATOR_NODE))
    finally:
        grid.close()
    return done
