"""`vfl align`: what it finds, what it writes, and what it refuses in one line that names file, key and lines."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path

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
REFUSED = {
    "missing key column": (b"idd,x\na,1\n", "--key: no column named 'id'; did you mean 'idd'?"),
    "key column twice": (b"id,id\na,b\n", "id: got 2 columns of this name"),
    "duplicate keys": (b"id,x\na,1\nc,2\nb,3\nc,4\nb,5\n", "id: got 'c' in lines 3 and 5"),
    "no id": (b"id,x\na,1\n,2\n", "id: got no id in line 3"),
    "short row": (b"x,id\n1,a\n2\n", "id: got no id in line 3"),
    "byte order mark": (b"\xef\xbb\xbf" + FINE, "got a UTF-8 byte order mark"),
    "UTF-16": (FINE.decode().encode("utf-16"), "got a UTF-16 byte order mark"),
    "another encoding": ("id,x\na,1\nj\u00fcrgen,2\n".encode("latin-1"), "got the byte 0xfc in line 3"),
    "empty": (b"", "got an empty file"),
    "header only": (b"id,x\n", "got no row below the header"),
    "open quote": (b'id,x\na,1\n"b,2\n', "got a malformed line 3"),
    "no overlap": (b"id,x\nc,1\nd,2\n", "id: got no id that all of"),
}


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
    for path in (tmp_path / "absent.csv", tmp_path, broken):
        assert main(["align", str(fine), str(path), "--key", "id"]) == 2
        stderr = capsys.readouterr().err
        assert stderr.startswith(f"vfl: {path}: cannot read it (")
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
