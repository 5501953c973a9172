"""The trees beside a network's figures are trees on the raw columns of the run's own training and test rows."""

from __future__ import annotations

import pytest
from harness import config, train
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score

from experiments.plan import open_world, party_specs
from experiments.trees import trees_of
from vfl import checkpoint
from vfl.data.breast_cancer import BreastCancer
from vfl.types import Role


def test_trees_learn_from_training_rows_and_are_tested_on_test_rows(tmp_path) -> None:
    asked = config(train={"epochs": 1, "batch_size": 64})
    train(asked, tmp_path)
    world = open_world(asked)
    specs = [spec for spec in party_specs(asked, world, tmp_path) if spec.role != Role.REFEREE]
    rows, pools = checkpoint.load(tmp_path / "referee" / "order.safetensors")[0]["order"].unbind(dim=1)
    source, labels = BreastCancer(), BreastCancer().labels(None)
    expected = []
    for columns in (world.columns["advertiser"], world.described.columns):
        values = source.read(columns, None).to_numpy()
        learned, tested = rows[pools == 0].numpy(), rows[pools == 2].numpy()
        model = HistGradientBoostingClassifier(random_state=0).fit(values[learned], labels[learned])
        expected.append(roc_auc_score(labels[tested], model.predict_proba(values[tested])[:, 1]))
    assert trees_of(specs, str(tmp_path / "referee"), 2) == pytest.approx(expected, abs=0.01)
    assert expected[0] != expected[1]
