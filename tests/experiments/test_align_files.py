"""`vfl align`: what it finds, what it writes, and what it refuses in one line that names file, key and lines."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path

import pandas as pd
import pytest

from experiments.cli import main

LEFT = {f"u{place}": place for place in range(10)}
RIGHT = {f"u{place}": -place for place in range(6, 20)}


def write(path: Path, rows: dict[str, int], key: str = "id", delimiter: str = ",") -> Path:
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter).writerows([["value", key], *((value, each) for each, value in rows.items())])
    content = text.getvalue().encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def rows(path: Path) -> list[int]:
    header, *lines = path.read_text().splitlines()
    assert header == "row"
    return [int(line) for line in lines]


@pytest.mark.parametrize("aligner", ["ecdh_psi", "plain", "salted_hash"])
def test_files_are_aligned_row_by_row(tmp_path: Path, capsys, aligner: str) -> None:
    ours, theirs = write(tmp_path / "a.csv", LEFT), write(tmp_path / "b.tsv.gz", RIGHT, delimiter="\t")
    out = tmp_path / "out"
    assert (
        main(["align", str(ours), str(theirs), "--key", "id", "--aligner", aligner, "--out", str(out), "--json"]) == 0
    )
    found = json.loads(capsys.readouterr().out)
    assert found["aligned"] == 4
    assert found["only"] == {"publisher": 6, "advertiser": 10}
    assert found["parties"]["publisher"] == {"file": str(ours), "rows": 10}
    assert found["bytes"]["psi"] > 0
    left, right = rows(out / "publisher.csv"), rows(out / "advertiser.csv")
    assert [list(LEFT)[row] for row in left] == [list(RIGHT)[row] for row in right]
    assert {list(LEFT)[row] for row in left} == set(LEFT) & set(RIGHT)


def test_more_files_are_more_publishers_and_text_is_for_people(tmp_path: Path, capsys) -> None:
    paths = [
        write(tmp_path / f"{name}.csv", rows) for name, rows in (("a", LEFT), ("b", RIGHT), ("c", {"u7": 1, "z": 2}))
    ]
    assert main(["align", *map(str, paths), "--key", "id"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("1 rows are shared by all, aligned by ecdh_psi on 'id'\n")
    assert "publisher_2: " in text
    assert "advertiser: " in text


def test_two_calls_draw_different_secrets(tmp_path: Path, capsys) -> None:
    ids = {f"u{place}": place for place in range(40)}
    paths = [str(write(tmp_path / name, ids)) for name in ("a.csv", "b.csv")]
    orders = []
    for name in ("one", "two"):
        assert main(["align", *paths, "--key", "id", "--out", str(tmp_path / name)]) == 0
        orders.append(rows(tmp_path / name / "advertiser.csv"))
    assert orders[0] != orders[1]


FINE = b"id,x\na,1\nb,2\n"
MARK = b"\xef\xbb\xbf"
REFUSED = {
    "missing key column": (b"idd,x\na,1\n", "id: no such column; did you mean 'idd'?"),
    "key column twice": (b"id,id\na,b\n", "id: got this column twice"),
    "duplicate keys": (
        b"id,x\na,1\nc,2\nb,3\nc,4\nb,5\n",
        "id: got 'c' in rows 2 and 4, allowed each key once",
    ),
    "no id": (b"id,x\na,1\n,2\n", "id: got no key in row 2"),
    "short row": (b"x,id\n1,a\n2\n", "got 1 values in row 2, allowed 2"),
    "two byte order marks": (MARK + MARK + FINE, "column 1: got a byte order mark in its name"),
    "files joined end to end": (FINE + MARK + b"c,3\n", "id: got a byte order mark in row 3"),
    "UTF-16": (FINE.decode().encode("utf-16"), "got UTF-16 text"),
    "another encoding": (
        "id,x\na,1\nj\u00fcrgen,2\n".encode("latin-1"),
        "got text in row 2, column 'id' that is not",
    ),
    "empty": (b"", "got an empty file"),
    "header only": (b"id,x\n", "got 0 rows"),
    "no overlap": (b"id,x\nc,1\nd,2\n", "id: got no id that all of"),
}


def test_files_are_read_as_those_of_a_run(tmp_path: Path, capsys) -> None:
    """Spaces and a byte order mark that no editor shows cost no match, whatever separates columns or packs the file."""
    pd.DataFrame({"x": [1, 2, 3], "id": ["a", "b", "c"]}).to_parquet(tmp_path / "a.parquet")
    (tmp_path / "b.csv").write_bytes(MARK + b"id;x\nb ;1\n c;2\nd;3\n")
    assert main(["align", str(tmp_path / "a.parquet"), str(tmp_path / "b.csv"), "--key", "id", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["aligned"], found["only"]) == (2, {"publisher": 1, "advertiser": 1})


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("fault", REFUSED)
def test_faults_are_refused_in_one_line(tmp_path: Path, capsys, fault: str, place: int) -> None:
    content, message = REFUSED[fault]
    paths = [tmp_path / "fine.csv", tmp_path / "fine.csv"]
    paths[place] = tmp_path / "faulty.csv"
    paths[0].write_bytes(FINE)
    paths[1].write_bytes(FINE)
    paths[place].write_bytes(content)
    out = tmp_path / "out"
    assert main(["align", str(paths[0]), str(paths[1]), "--key", "id", "--out", str(out)]) == 2
    stdout, stderr = capsys.readouterr()
    assert stdout == ""
    assert stderr.count("\n") == 1
    assert str(tmp_path / "faulty.csv") in stderr
    assert message in stderr
    assert not out.exists()


def test_files_that_cannot_be_opened_are_refused(tmp_path: Path, capsys) -> None:
    fine = tmp_path / "fine.csv"
    fine.write_bytes(FINE)
    broken = tmp_path / "broken.csv.gz"
    broken.write_bytes(gzip.compress(FINE)[:-9])
    refused = {tmp_path / "absent.csv": "no such file", tmp_path: "no such file", broken: "cannot be read ("}
    for path, told in refused.items():
        assert main(["align", str(fine), str(path), "--key", "id"]) == 2
        stderr = capsys.readouterr().err
        assert stderr.startswith(f"vfl: {path}: {told}")
        assert stderr.count("\n") == 1


def test_usage_is_checked(tmp_path: Path, capsys) -> None:
    fine = tmp_path / "fine.csv"
    fine.write_bytes(FINE)
    full = tmp_path / "full"
    full.mkdir()
    (full / "there").write_text("")
    faults = {
        ("align", str(fine), "--key", "id"): "got 1 file",
        ("align", str(fine), str(fine)): "--key",
        ("align", str(fine), str(fine), "--key", "id", "--aligner", "ecdh"): "did you mean 'ecdh_psi'",
        ("align", str(fine), str(fine), "--key", "id", "--out", str(full)): "a directory that is not empty",
    }
    for arguments, message in faults.items():
        assert main(list(arguments)) == 2
        assert message in capsys.readouterr().err
