"""A finished run's model at work: every party encodes its own rows, and the round that scores test rows is played.

What crosses the wire is what crossed it in the test: the embeddings after each party's defenses, and the scores, which
here go to whoever asked instead of the referee.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import pandas as pd
import torch
from torch import Tensor

from parties.feature_party import FeatureParty
from parties.local import LocalCarrier, make_party
from parties.party import Party
from parties.referee import Recorder
from parties.saved import part
from parties.spec import PartySpec
from vfl import checkpoint
from vfl.compat_flwr import identify
from vfl.coordinator import evaluation_steps
from vfl.errors import DataError
from vfl.grid import PartyGrid
from vfl.methods import Method
from vfl.registry import build
from vfl.types import ADVERTISER, REFEREE, PartyId, Pool, Role


@dataclass(frozen=True, slots=True)
class Trained:
    """The parties of a finished run, and the folder that each left behind."""

    specs: Sequence[PartySpec]
    folders: Mapping[PartyId, Path]

    def test_rows(self, party: PartyId) -> Tensor:
        """Return which rows of a party's own table, `(n,)`, the test was made on, in the order all parties share."""
        tensors, _ = checkpoint.load(self._final(party))
        train, valid, _ = (int(count) for count in tensors["loose.counts"])
        return tensors["loose.order"][train + valid :]

    def scores(self, frames: Mapping[PartyId, pd.DataFrame], absent: Collection[PartyId] = ()) -> Tensor:
        """Return `(rows, classes)` probabilities for rows that stand in the same order in every party's frame.

        A publisher in `absent` brings no frame; the advertiser puts the mean embedding it last had of it in its place.
        """
        identify()
        rows = len(frames[ADVERTISER])
        seated = {spec.party: self._seat(spec, frames, frozenset(absent)) for spec in self.specs}
        roster = self.specs[0].roster
        grid = PartyGrid(roster, LocalCarrier(roster, seated), "relay")
        for party in absent:
            grid.excuse(party)
        method: Method = build("method", self.specs[0].method)
        try:
            for index, step in enumerate(evaluation_steps("test", Pool.TEST, rows)):
                grid.play(method.evaluate, replace(step, index=index))
        finally:
            grid.close()
        return cast(Recorder, seated[REFEREE].player).loose()["scores"]

    def _seat(self, spec: PartySpec, frames: Mapping[PartyId, pd.DataFrame], absent: frozenset[PartyId]) -> Party:
        party = make_party(replace(spec, folder=None, channel=False, credentials=None, record_every=0))
        party.absence.absent, party.prepared = absent, True
        if spec.role == Role.REFEREE or spec.party in absent:
            return party
        cast(FeatureParty, party.player).serve(frames[spec.party], self.folders[spec.party])
        tensors, _ = checkpoint.load(self._final(spec.party))
        checkpoint.restore(party.player.parts(), tensors)
        party.absence.heard = part(tensors, "heard")
        return party

    def _final(self, party: PartyId) -> Path:
        path = self.folders[party] / "checkpoints" / "final.safetensors"
        if not path.is_file():
            raise DataError(
                "no networks are there; the run has not finished, or was copied without them", where=str(path)
            )
        return path


def auc(scores: Tensor, labels: Tensor) -> float | None:
    """Return the area under the ROC curve of `(rows, classes)` scores; macro one-against-rest above two classes."""
    from sklearn.metrics import roc_auc_score

    if len(torch.unique(labels)) < 2:
        return None
    if scores.shape[1] == 2:
        return float(roc_auc_score(labels.numpy(), scores[:, 1].numpy()))
    return float(roc_auc_score(labels.numpy(), scores.numpy(), multi_class="ovr"))
