"""Learners in one table learn from training rows, are chosen by validation rows and tested on test rows."""

from __future__ import annotations

import numpy as np
import pytest
from harness import config, train
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from experiments.plain_readers import best_level, plain_levels
from experiments.plan import open_world, party_specs
from vfl import checkpoint
from vfl.data.breast_cancer import BreastCancer
from vfl.types import Role


def test_levels_are_of_the_raw_columns_and_the_runs_rows(tmp_path) -> None:
    asked = config(train={"epochs": 1, "batch_size": 64})
    train(asked, tmp_path)
    world = open_world(asked)
    specs = [spec for spec in party_specs(asked, world, tmp_path) if spec.role != Role.REFEREE]
    rows, pools = checkpoint.load(tmp_path / "referee" / "order.safetensors")[0]["order"].unbind(dim=1)
    source, labels = BreastCancer(), BreastCancer().labels(None)
    expected = []
    for columns in (world.columns["advertiser"], world.described.columns):
        values = source.read(columns, None).to_numpy()
        learned, seen, tested = (rows[pools == code].numpy() for code in range(3))
        scaled = (values - values[learned].mean(axis=0)) / values[learned].std(axis=0)
        models = [HistGradientBoostingClassifier(random_state=0), LogisticRegression(max_iter=1000)]
        figures = []
        for model in models:
            model.fit(scaled[learned], labels[learned])
            shown = [model.predict_proba(scaled[part])[:, 1] for part in (seen, tested)]
            figures.append(
                [roc_auc_score(labels[part], each) for part, each in zip((seen, tested), shown, strict=True)]
            )
        expected.append(max(figures)[1])
    assert plain_levels(specs, str(tmp_path / "referee"), 2) == pytest.approx(expected, abs=0.01)
    assert expected[0] != expected[1]


def made(rows: int, line: bool, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two columns that decide the class on a line, which trees read worse, or by their product, which lines do not."""
    draws = np.random.default_rng(seed)
    cells = draws.normal(size=(rows, 2))
    wanted = cells.sum(axis=1) if line else cells[:, 0] * cells[:, 1]
    return cells, (wanted + 0.3 * draws.normal(size=rows) > 0).astype(int)


@pytest.mark.parametrize("line", [True, False])
def test_the_better_learner_is_chosen_by_validation_rows(line) -> None:
    cells, labels = made(900, line)
    learners = LogisticRegression(), HistGradientBoostingClassifier(random_state=0)
    figures = [
        roc_auc_score(labels[600:], learner.fit(cells[:100], labels[:100]).predict_proba(cells[600:])[:, 1])
        for learner in learners
    ]
    assert best_level(cells, labels, (100, 500), ids=0) == pytest.approx(max(figures), abs=0.01)
    assert max(figures) > min(figures) + 0.01


def test_ids_are_read_by_their_target_means_of_training_rows_alone() -> None:
    """A hundred ids, even ones of class 1; where training rows do not say so, test rows cannot be told apart."""
    draws = np.random.default_rng(0)
    told = draws.integers(0, 100, 3000)
    cells, labels = told[:, None].astype(float), (told % 2 == 0).astype(int)
    assert best_level(cells, labels, (1000, 1000), ids=1) == 1.0
    untold = np.where(np.arange(3000) < 1000, draws.integers(0, 2, 3000), labels)
    assert abs(best_level(cells, untold, (1000, 1000), ids=1) - 0.5) < 4 * np.sqrt(1 / 12 * 2 / 50)
