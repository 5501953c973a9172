"""The run as it would have been had nobody tampered: what an active attack costs is measured against it.

A job of the referee's process, which may hold every party's rows. Seeds, rows, batches and defenses are those of the
run, so that without tampering it would end in the same model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from parties.local import local_grid
from parties.spec import PartySpec
from vfl.compat_flwr import COORDINATOR_NODE, new_context
from vfl.coordinator import Fit, Plan, Progress, server_app
from vfl.types import Role

TWIN = "honest"
"""Name of the reference, and of the folder inside the referee's that its scores go to."""


class Deaf:
    """A watcher that tells nobody."""

    def phase(self, name: str, steps: int) -> None:
        """Hear that a phase begins."""

    def advance(self, name: str, done: int, loss: float | None) -> None:
        """Hear that some of it is done."""

    def checkpointed(self, progress: Progress) -> None:
        """Hear of a checkpoint; a twin makes none."""


def train_twin(specs: Sequence[PartySpec], plan: Plan, folder: str) -> None:
    """Train the parties of `specs`, who keep to the protocol, and leave the referee's notes of it in `folder`."""
    torch.set_num_threads(specs[0].train.threads)
    grid = local_grid([_keeping_to_the_protocol(spec, folder) for spec in specs], "direct")
    try:
        app = server_app(replace(plan, checkpoint_every=0, restarts=0), Fit(), Deaf())
        app(grid, new_context(COORDINATOR_NODE))
    finally:
        grid.close()


def _keeping_to_the_protocol(spec: PartySpec, folder: str) -> PartySpec:
    own = folder if spec.role == Role.REFEREE else None
    return replace(spec, tampers=(), channel=False, credentials=None, record_every=0, folder=own)
