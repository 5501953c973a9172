"""Encoded rows in a file: the same rows, the same run, and no more of them in memory than were asked for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from harness import config, digest, train

from experiments.plan import open_world, party_specs
from parties import rows, table
from parties.table import Mapped, Resident, encode
from vfl.data.encode import EncodeOptions
from vfl.data.shard import load_features


def resident_mb(name: str) -> float:
    """Memory of this process, in MB, that maps files whose path has this name in it."""
    found, total = False, 0
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            found = name in line
        elif found and line.startswith("Rss:"):
            total += int(line.split()[1])
    return total / 1024


def test_a_mapped_table_gives_the_rows_of_a_resident_one(tmp_path):
    stream = torch.Generator().manual_seed(0)
    numeric, categorical = torch.randn(100, 3, generator=stream), torch.randint(9, (100, 2), generator=stream)
    parts = [(numeric[:40], categorical[:40]), (numeric[40:], categorical[40:])]
    mapped, resident = Mapped(parts, tmp_path), Resident(numeric, categorical)
    places = torch.randint(100, (70,), generator=stream)
    for found, expected in zip(mapped.take(places), resident.take(places), strict=True):
        assert found.dtype == expected.dtype
        assert torch.equal(found, expected)
    assert not list(tmp_path.iterdir())


def test_a_mapped_table_keeps_no_row_in_memory(tmp_path):
    width, count = 32, 2**17
    mapped = Mapped([(torch.ones(count, width), torch.empty(count, 0, dtype=torch.int64))], tmp_path)
    assert resident_mb(str(tmp_path)) < 1
    numeric, _ = mapped.take(torch.randperm(count))
    assert int(numeric.sum()) == count * width
    assert resident_mb(str(tmp_path)) < 1


@pytest.mark.parametrize("split", [{"publisher": ["mean_radius"], "advertiser": ["mean_texture"]}, None])
def test_a_run_does_not_depend_on_where_its_rows_are(tmp_path, monkeypatch, split):
    asked = config(align={"overlap": 0.6}, **({"split": split} if split else {}))
    expected = digest(train(asked))
    monkeypatch.setattr(table, "RESIDENT_BYTES", 0)
    monkeypatch.setattr(rows, "WINDOW_ROWS", 10)
    kinds: list[type] = []
    monkeypatch.setattr(table, "Mapped", lambda *given: kinds.append(Mapped) or Mapped(*given))
    assert digest(train(asked)) == expected
    assert kinds == [Mapped, Mapped]


def test_an_encoder_sees_training_rows_alone_however_they_are_read(monkeypatch):
    spec = party_specs(config(), open_world(config()), None)[0]
    local = load_features(spec.shard)
    training = torch.arange(0, local.rows, 3)
    whole, rows_of_whole = encode(local, training, EncodeOptions())
    monkeypatch.setattr(table, "BATCH_ROWS", 10)
    parts, rows_of_parts = encode(local, training, EncodeOptions())
    assert whole == parts
    everything = torch.arange(local.rows)
    assert torch.equal(rows_of_whole.take(everything)[0], rows_of_parts.take(everything)[0])
    assert abs(rows_of_whole.take(training)[0].mean()) < 1e-6 < abs(rows_of_whole.take(everything)[0].mean())
