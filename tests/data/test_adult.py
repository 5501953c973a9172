import gzip
import hashlib
import io
import re

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score

from vfl.data import adult
from vfl.data.adult import Adult
from vfl.errors import DataError

UCI_NAMES = [
    "age", "workclass", "fnlwgt", "education", "education_num", "marital_status", "occupation", "relationship",
    "race", "sex", "capital_gain", "capital_loss", "hours_per_week", "native_country", "income",
]  # fmt: skip


@pytest.fixture
def uci(vfl_data) -> pd.DataFrame:
    folder = vfl_data / "adult"
    if not folder.is_dir():
        pytest.skip("needs UCI's adult.data.gz and adult.test.gz in the folder adult of VFL_DATA")
    texts = [gzip.decompress((folder / name).read_bytes()).decode() for name in ("adult.data.gz", "adult.test.gz")]
    lines = [line.rstrip(".") for text in texts for line in text.splitlines() if line.count(",") == 14]
    return pd.read_csv(
        io.StringIO("\n".join(lines)), names=UCI_NAMES, skipinitialspace=True, na_values="?", keep_default_na=False
    )


def test_file_is_the_one_whose_checksum_is_written_beside_it():
    written = re.search(r"SHA-256 of adult.parquet\*\*: `([0-9a-f]{64})`", adult.FILE.with_suffix(".md").read_text())
    assert written is not None
    assert hashlib.sha256(adult.FILE.read_bytes()).hexdigest() == written[1]
    assert adult.FILE.stat().st_size < 500_000


def test_table_equals_uci_row_by_row(uci):
    stored = pd.read_parquet(adult.FILE)
    assert list(stored.columns) == UCI_NAMES
    for name in UCI_NAMES:
        theirs, ours = uci[name], stored[name]
        assert ours.isna().tolist() == theirs.isna().tolist(), name
        assert ours.dropna().tolist() == theirs.dropna().tolist(), name
        assert ours.value_counts().to_dict() == theirs.value_counts().to_dict(), name


def test_description_holds_for_the_file():
    described = Adult().describe(None)
    frame = Adult().read(described.columns, None)
    assert list(frame.columns) == list(described.columns)
    assert len(frame) == described.rows == 48_842
    assert all(frame[name].dtype == np.float64 for name in described.numeric)
    assert all(isinstance(frame[name].dropna().iloc[0], str) for name in described.categorical)
    missing = frame.isna().sum()
    assert missing[missing > 0].to_dict() == {"workclass": 2799, "occupation": 2809, "native_country": 857}
    assert sorted(sum(described.split.values(), ())) == sorted(described.columns)


def test_labels_and_official_test_rows():
    labels, test = Adult().labels(None), Adult().test_rows(None)
    assert labels.dtype == np.int64
    assert labels.shape == test.shape == (48_842,)
    assert labels.sum() == 11_687
    assert test.sum() == 16_281
    assert labels[test].sum() == 3_846  # >50K in UCI's adult.test


def test_unknown_column_names_the_nearest():
    with pytest.raises(DataError, match=r"adult\.parquet: education_nun: .*did you mean 'education_num'"):
        Adult().read(["education_nun"], None)


def test_the_label_itself_is_no_feature():
    with pytest.raises(DataError, match="income"):
        Adult().read(["income"], None)


def test_partner_adds_three_points_of_auc_or_more():
    described, labels, test = Adult().describe(None), Adult().labels(None), Adult().test_rows(None)
    frame = Adult().read(described.columns, None)
    frame = frame.astype(dict.fromkeys(described.categorical, "category"))

    def auc(columns: tuple[str, ...]) -> float:
        model = HistGradientBoostingClassifier(random_state=0, max_iter=60)
        model.fit(frame.loc[~test, list(columns)], labels[~test])
        scores = model.predict_proba(frame.loc[test, list(columns)])[:, 1]
        return float(roc_auc_score(labels[test], scores))

    alone, partner = auc(described.split["advertiser"]), auc(described.split["publisher"])
    assert auc(described.columns) - max(alone, partner) >= 0.03
    assert alone == pytest.approx(0.859, abs=0.01)
    assert partner == pytest.approx(0.832, abs=0.01)
