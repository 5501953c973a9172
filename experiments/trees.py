"""What gradient-boosted trees make of the same columns and rows: a level to read a network's figures by."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import accuracy_score, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import TargetEncoder

from parties.judging import open_truth
from parties.references import members
from parties.spec import PartySpec
from vfl.types import Role


def trees_of(specs: Sequence[PartySpec], folder: str, classes: int) -> tuple[float, float]:
    """Return the trees' AUC, or accuracy for several classes, on the advertiser's columns and on all parties'.

    `folder` is the referee's of a run that was trained: rows, pools and encoders are that run's. Trees learn from its
    training rows, ids as cross-fitted target means, and are tested on its test rows; nothing is tuned.
    """
    advertiser = next(spec for spec in specs if spec.role == Role.ADVERTISER)
    if advertiser.shard is None:
        raise ValueError(f"{advertiser.party} has no shard")
    truth, found = open_truth(advertiser.shard, folder, classes)
    labels = truth.labels.open()
    tables = {spec.party: each.rows.features() for spec, each in zip(specs, members(specs, found, labels), strict=True)}
    numeric = {party: batch.numeric.numpy() for party, batch in tables.items()}
    ids = {party: batch.categorical.numpy() for party, batch in tables.items()}
    train, tested = found.sizes[0], found.sizes[0] + found.sizes[1]

    def level(parties: Sequence[str]) -> float:
        cells = np.concatenate([*(ids[party] for party in parties), *(numeric[party] for party in parties)], axis=1)
        columns = list(range(sum(ids[party].shape[1] for party in parties)))
        coded = make_column_transformer((TargetEncoder(random_state=0), columns), remainder="passthrough")
        model = make_pipeline(coded, HistGradientBoostingClassifier(random_state=0))
        model.fit(cells[:train], labels[:train].numpy())
        known, scores = labels[tested:].numpy(), model.predict_proba(cells[tested:])
        return float(roc_auc_score(known, scores[:, 1]) if classes == 2 else accuracy_score(known, scores.argmax(1)))

    return level([advertiser.party]), level(list(tables))
