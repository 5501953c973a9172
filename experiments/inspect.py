"""A finished run as someone sees it who may look at every side: for analysis, never for an attack."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from torch import Tensor

from experiments.config import load
from experiments.folder import CONFIG, read_row
from experiments.plan import World, open_world, party_folder, party_specs
from experiments.schema import Config
from parties.judging import open_truth
from vfl.errors import UserError
from vfl.referee import Truth
from vfl.store import load_view
from vfl.transcript import AdversaryView
from vfl.types import PartyId, Role


@dataclass(frozen=True)
class Opened:
    """A run directory, opened: its row, what each party saw, and the truth."""

    run_dir: Path
    row: dict[str, Any]
    config: Config
    world: World
    truth: Truth

    def view(self, party: PartyId) -> AdversaryView:
        """Return what a party sent and received; raises `UserError` where the transcript was not kept."""
        folder = party_folder(self.run_dir, party) / "transcript"
        if not folder.is_dir():
            raise UserError("got no transcript, allowed a run with record.keep: run; run it again", where=str(folder))
        return load_view([folder], (party,), len(self.world.described.classes))

    def labels(self, rows: Tensor) -> Tensor:
        """Return the true classes of `(n,)` row handles."""
        return self.truth.of(rows)

    def steps(self) -> pd.DataFrame:
        """Return one row a training step: `step`, `loss`, and `valid_loss` where an epoch ended."""
        return pd.read_parquet(self.run_dir / "steps.parquet")


def open_run(run_dir: Path | str) -> Opened:
    """Open a finished run; raises `UserError` where there is none."""
    folder = Path(run_dir)
    row, config = read_row(folder), load(folder / CONFIG)
    world = open_world(config)
    shard = next(spec.shard for spec in party_specs(config, world, None) if spec.role == Role.ADVERTISER)
    if shard is None:
        raise UserError(
            "got no shard at the advertiser, allowed a run of this package; run it again", where=str(folder)
        )
    truth, _ = open_truth(shard, str(party_folder(folder, "referee")), len(world.described.classes))
    return Opened(folder, row, config, world, truth)
