"""What the run-level tests share: small configurations and one call that trains them in process."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from experiments.plan import coordinator_plan, largest_body_bytes, open_world, party_specs, with_credentials
from experiments.run import digest
from experiments.schema import Config
from parties.local import local_grid
from vfl.compat_flwr import COORDINATOR_NODE, new_context
from vfl.coordinator import Fit, server_app

TINY = {"data": "breast_cancer", "train": {"epochs": 2, "batch_size": 64}, "references": [], "attack": []}
"""569 rows: a whole run takes a fraction of a second."""


class Deaf:
    """A watcher that hears nothing."""

    def phase(self, name: str, steps: int) -> None:
        pass

    def advance(self, name: str, done: int, loss: float | None) -> None:
        pass

    def checkpointed(self, progress: object) -> None:
        pass


def config(**changed: Any) -> Config:
    return Config.model_validate({**TINY, "backend": "local", **changed})


def train(asked: Config, folder: Path | None = None, make_grid: Any = None, edit: Any = None) -> Fit:
    """Train a configuration and return what the coordinator has; `edit` changes the party specs first."""
    world = open_world(asked)
    specs = with_credentials(asked, party_specs(asked, world, folder))
    specs = edit(specs) if edit else specs
    grid = (
        make_grid(specs, asked, largest_body_bytes(asked, world)) if make_grid else local_grid(specs, asked.transport)
    )
    fit = Fit()
    try:
        server_app(coordinator_plan(asked), fit, Deaf())(grid, new_context(COORDINATOR_NODE))
    finally:
        grid.close()
    return fit


def edges(fit: Fit) -> dict[str, str]:
    """Return the digest chain of every edge."""
    return {
        f"{party}>{key.removeprefix('chain/')}": str(link)
        for party, closing in fit.closing.items()
        for key, link in closing.items()
        if key.startswith("chain/")
    }


__all__ = ["config", "digest", "edges", "replace", "train"]
