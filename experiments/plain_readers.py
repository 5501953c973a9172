"""What common learners make of the same columns and rows, in one table: levels to read a network's figures by."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, roc_auc_score
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler, TargetEncoder

from parties.judging import open_truth
from parties.references import members
from parties.spec import PartySpec
from vfl.types import Role

FOLDS = StratifiedKFold(5, shuffle=True, random_state=0)
LEARNERS = (HistGradientBoostingClassifier(random_state=0), LogisticRegression(max_iter=1000))


def plain_levels(specs: Sequence[PartySpec], folder: str, classes: int) -> tuple[float, float]:
    """Return AUC, or accuracy for several classes, on the advertiser's columns and on all parties'.

    Each is of boosted trees or of logistic regression, as scikit-learn sets them by default, whichever is better on the
    validation rows. `folder` is the referee's of a run that was trained: rows, pools and encoders are that run's.
    Ids come as cross-fitted target means; nothing is tuned.
    """
    advertiser = next(spec for spec in specs if spec.role == Role.ADVERTISER)
    if advertiser.shard is None:
        raise ValueError(f"{advertiser.party} has no shard")
    truth, found = open_truth(advertiser.shard, folder, classes)
    labels = truth.labels.open()
    tables = {spec.party: each.rows.features() for spec, each in zip(specs, members(specs, found, labels), strict=True)}
    numeric = {party: batch.numeric.numpy() for party, batch in tables.items()}
    ids = {party: batch.categorical.numpy() for party, batch in tables.items()}

    def level(parties: Sequence[str]) -> float:
        cells = np.concatenate([*(ids[party] for party in parties), *(numeric[party] for party in parties)], axis=1)
        count = sum(ids[party].shape[1] for party in parties)
        return best_level(cells, labels.numpy(), (found.sizes[0], found.sizes[1]), count)

    return level([advertiser.party]), level(list(tables))


def best_level(cells: np.ndarray, labels: np.ndarray, sizes: tuple[int, int], ids: int) -> float:
    """Return the test figure of the learner with the better validation figure; ties go to the trees.

    `cells` `(rows, columns)` and `labels` `(rows,)` hold `sizes[0]` training rows, then `sizes[1]` for validation, then
    those to test; the first `ids` columns are ids.
    """
    train, tested = sizes[0], sizes[0] + sizes[1]
    figures: list[tuple[float, ...]] = []
    for learner in LEARNERS:
        coded = make_column_transformer((TargetEncoder(cv=FOLDS), list(range(ids))), remainder="passthrough")
        model = make_pipeline(coded, StandardScaler(), learner)
        model.fit(cells[:train], labels[:train])
        figures.append(
            (figure(model, cells[train:tested], labels[train:tested]), figure(model, cells[tested:], labels[tested:]))
        )
    return max(figures, key=lambda both: both[0])[1]


def figure(model: ClassifierMixin, cells: np.ndarray, labels: np.ndarray) -> float:
    """Return a fitted model's AUC for two classes, else its accuracy."""
    scores = model.predict_proba(cells)
    if scores.shape[1] == 2:
        return float(roc_auc_score(labels, scores[:, 1]))
    return float(accuracy_score(labels, model.classes_[scores.argmax(axis=1)]))
