from __future__ import annotations

import json
import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from experiments import results
from experiments.config import resolved
from experiments.schema import Config
from vfl.errors import UserError

CONFIG = resolved(Config.model_validate({"defense": [{"name": "marvell", "s": 4}], "seed": 7}))
RUN = json.loads((Path(__file__).parent / "example_row.json").read_text())


def test_a_row_holds_the_configuration_and_the_figures_under_dotted_names():
    row = results.row_of("abc", CONFIG, RUN)
    assert row["config.train.epochs"] == CONFIG["train"]["epochs"]
    assert json.loads(row["config.defense"])[0]["s"] == 4
    assert row["gain.auc.value"] == RUN["gain"]["auc"]["value"]
    assert row["bytes"] == sum(RUN["cost"]["bytes"].values())
    assert (row["trial"], row["seed"], row["status"], row["error"]) == ("abc", 7, "ok", None)


def test_rows_of_different_trials_come_back_as_one_table(tmp_path: Path):
    results.write(tmp_path, results.row_of("b", CONFIG, RUN))
    results.write(tmp_path, results.failed_row("a", CONFIG, "PartyError: it broke"))
    frame = results.load(tmp_path)
    assert list(frame["trial"]) == ["a", "b"]
    assert list(frame["status"]) == ["failed", "ok"]
    assert frame["gain.auc.value"].isna().tolist() == [True, False]
    assert results.known(tmp_path) == {"a": "failed", "b": "ok"}


def test_a_trial_that_is_run_again_replaces_its_row(tmp_path: Path):
    results.write(tmp_path, results.failed_row("a", CONFIG, "PartyError: it broke"))
    results.write(tmp_path, results.row_of("a", CONFIG, RUN))
    assert list(results.load(tmp_path)["status"]) == ["ok"]


def test_many_writers_lose_nothing(tmp_path: Path):
    names = [f"{number:03d}" for number in range(40)]
    writers = [
        threading.Thread(target=results.write, args=(tmp_path, results.row_of(name, CONFIG, RUN))) for name in names
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert list(results.load(tmp_path)["trial"]) == names


def test_a_half_written_row_is_none(tmp_path: Path):
    results.write(tmp_path, results.row_of("a", CONFIG, RUN))
    (tmp_path / results.ROWS / "b.parquet.part").write_bytes(b"PAR1")
    assert list(results.known(tmp_path)) == ["a"]


def test_a_broken_row_and_one_of_another_version_are_named(tmp_path: Path):
    results.write(tmp_path, results.row_of("a", CONFIG, RUN))
    path = tmp_path / results.ROWS / "a.parquet"
    table = pq.read_table(path)
    pq.write_table(table.set_column(0, "schema", [[99]]), path)
    with pytest.raises(UserError, match="got rows of schema 99, allowed 1"):
        results.load(tmp_path)
    path.write_bytes(b"no parquet")
    with pytest.raises(UserError, match=r"a\.parquet: cannot be read"):
        results.load(tmp_path)


def test_what_is_no_row_is_named_wherever_rows_are_read(tmp_path: Path):
    """A resumed sweep must not take it for a finished trial, nor end in a traceback."""
    results.write(tmp_path, results.row_of("a", CONFIG, RUN))
    path, whole = tmp_path / results.ROWS / "a.parquet", (tmp_path / results.ROWS / "a.parquet").read_bytes()
    other = pq.read_table(path).set_column(0, "schema", [[0]])
    foreign = pa.table({"x": [1, 2, 3]})
    for content, told in (
        (whole[: len(whole) // 2], "cannot be read"),
        (b"", "cannot be read"),
        (other, "got rows of schema 0, allowed 1"),
        (foreign, "got no row of a trial"),
    ):
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            pq.write_table(content, path)
        for read in (results.known, results.load, results.rows):
            with pytest.raises(UserError, match=told) as caught:
                read(tmp_path)
            assert len(str(caught.value).splitlines()) == 1


def test_an_option_that_is_text_in_one_trial_and_a_number_in_another_is_text(tmp_path: Path):
    for name, width in (("a", 3), ("b", "auto"), ("c", None)):
        results.write(tmp_path, {**results.row_of(name, CONFIG, RUN), "config.method.width": width})
    assert results.load(tmp_path)["config.method.width"].tolist()[:2] == ["3", "auto"]
    assert results.rows(tmp_path)[0]["config.method.width"] == 3


def test_a_trial_is_told_in_a_line(tmp_path: Path):
    results.write(tmp_path, results.row_of("a", CONFIG, RUN))
    assert results.summary(tmp_path, "a") == "a: AUC 0.9124, worst leak AUC 0.998, 9.9 s, 432 MB, 61.6 MB sent"
    results.write(tmp_path, results.failed_row("b", CONFIG, "PartyError: it broke"))
    assert results.summary(tmp_path, "b") == "b: PartyError: it broke"


def test_a_folder_without_runs_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match="got no finished run in it"):
        results.load(tmp_path)
    with pytest.raises(UserError, match="no such directory"):
        results.load(tmp_path / "nowhere")
