"""The defense sweep: every cell can be run, rows are found again, and the page shows what the rows say."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.bench.defense_report import BEGIN, END, lines
from experiments.bench.defense_sweep import ROWS, SEEDS, SETS, TIERS, TOPS, Cell, cells, known
from experiments.bench.rows import add_row, read_rows, stack_name
from vfl.privacy.ledger import void
from vfl.registry import build

PAGE = Path("docs/results/defenses.md")


def test_every_stack_can_be_built():
    for stack in (stack for tier in TIERS for stack in tier):
        assert not void([build("defense", spec) for spec in stack])


def test_cells_are_all_combinations_once():
    keys = [cell.key for cell in cells()]
    assert len(set(keys)) == len(keys) == sum(map(len, TIERS)) * SEEDS * len(SETS) * len(TOPS)


def row(leak: float, auc: float, seed: int, stack: list) -> dict:
    figures = {"leak_auc": 0.5, "leak_auc_pooled": 0.5, "abs_q95": 0.1, "sign_free": 0.6, "upper": 0.7, "batches": 3}
    figures["chance"] = {"sign_free": 0.55, "abs_q95": 0.1}
    leakage = dict.fromkeys(("norm", "direction", "hint_norm"), figures)
    told = {"data": "criteo", "top": "linear", "seed": seed, "defense": stack, "test": {"auc": auc}}
    return {**told, "leakage": {**leakage, "likelihood_ratio": {**figures, "sign_free": leak}}, "epsilon": None}


def test_a_table_has_the_greatest_leak_and_what_is_lost_by_seed(tmp_path):
    for seed, (bare, defended) in enumerate([(0.70, 0.68), (0.74, 0.70)]):
        add_row(tmp_path / "criteo.jsonl", row(1.0, bare, seed, []))
        add_row(tmp_path / "criteo.jsonl", row(0.8 + seed / 10, defended, seed, [{"name": "max_norm"}]))
    assert len(read_rows(tmp_path)) == len(known(tmp_path)) == 4
    assert Cell("criteo", "linear", 1, ({"name": "max_norm"},)).key in known(tmp_path)
    (line,) = [line for line in lines(tmp_path) if "max_norm**" in line]
    cut = [part.strip() for part in line.strip("|").split("|")]
    assert cut[1:4] == ["0.690 [0.680, 0.700]", "+0.030 [+0.020, +0.040]", "0.850 [0.800, 0.900]"]
    assert cut[4:] == ["ratio", "0.550", "0.700", "none", "2"]


@pytest.mark.parametrize(("stack", "name"), [([], "none"), ([{"name": "a", "s": 4.0}, {"name": "b"}], "a s=4.0 + b")])
def test_stacks_are_named_by_what_they_hold(stack, name):
    assert stack_name(stack) == name


def test_the_page_shows_what_the_rows_say():
    page = PAGE.read_text(encoding="utf-8")
    shown = page.partition(BEGIN)[2].partition(END)[0].strip()
    assert shown == "\n".join(lines(ROWS)).strip()
