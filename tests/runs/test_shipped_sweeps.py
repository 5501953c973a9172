"""What is shipped runs: the first and the last trial of each sweep, as they are, and a report of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments import report, results
from experiments.axes import read_sweep
from experiments.sweep import resolve, run_trial
from vfl.errors import DataError

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
SHIPPED = sorted((Path(__file__).parents[2] / "configs" / "sweep").glob("*.yaml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_the_first_and_the_last_trial_of_what_is_shipped_end_well(path: Path, tmp_path: Path):
    asked = read_sweep(path)
    try:
        trials = resolve([asked[0], asked[-1]], str(path))
    except DataError as error:
        pytest.skip(f"needs data files: {error}")
    for each in trials:
        assert run_trial(each.trial.config, each.trial.key, str(tmp_path)) == ""
    assert len(results.load(tmp_path)) == 2
    text = report.write(tmp_path, None, "html").read_text()
    assert "<h1" in text
    assert "Trials that failed" not in text
