"""The defense sweep: every cell can be run, rows are found again, and the page shows what the rows say."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.bench import residue
from experiments.bench.defense_report import lines
from experiments.bench.defense_stacks import AIMS, SEEDS
from experiments.bench.defense_sweep import ROWS, Cell, cells, known
from experiments.bench.rows import BEGIN, END, add_row, read_rows, stack_name
from vfl.privacy.ledger import void
from vfl.registry import build

PAGE = Path("docs/results/defenses.md")


def test_every_stack_can_be_built():
    for stack in (stack for aim in AIMS.values() for stack in aim.stacks):
        assert not void([build("defense", spec) for spec in stack])


def test_cells_are_all_combinations_once():
    keys = [cell.key for cell in cells()]
    assert len(set(keys)) == len(keys) == sum(len(aim.stacks) * SEEDS * len(aim.order) for aim in AIMS.values())


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


@pytest.mark.parametrize(
    ("page", "made"),
    [
        (PAGE, lambda: lines(ROWS)),
        (Path("docs/results/residue.md"), lambda: [*residue.table(residue.ROWS), *residue.compared(residue.ROWS)]),
    ],
    ids=["defenses", "residue"],
)
def test_the_page_shows_what_the_rows_say(page, made):
    shown = page.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0].strip()
    assert shown == "\n".join(made()).strip()


def test_an_attack_that_failed_makes_nothing_safe(tmp_path):
    failed = row(0.9, 0.7, 0, [{"name": "max_norm"}])
    failed["leakage"]["likelihood_ratio"] = {"error": "it failed"}
    add_row(tmp_path / "criteo.jsonl", failed)
    (line,) = [line for line in lines(tmp_path) if "max_norm**" in line]
    cut = [part.strip() for part in line.strip("|").split("|")]
    assert cut[3:7] == ["0.600", "norm", "0.550", "failed"]


@pytest.mark.parametrize(("leak", "verdict"), [(0.95, "does not hold"), (0.57, "the claim holds"), (0.7, "in between")])
def test_the_verdict_on_mixpro_follows_its_greatest_sign_free_leak(tmp_path, leak, verdict):
    made = row(leak, 0.7, 0, [{"name": "mixpro"}])
    made["leakage"]["direction"] = made["leakage"]["hint_norm"] = {**made["leakage"]["norm"], "sign_free": 0.5}
    made["leakage"]["norm"] = {**made["leakage"]["norm"], "sign_free": 0.5, "leak_auc": 0.45}
    add_row(tmp_path / "criteo.jsonl", made)
    told = list(lines(tmp_path))
    (line,) = [line for line in told if line.startswith("- Criteo, 10,000 rows, linear top, mixpro")]
    assert verdict in line
    assert f"greatest of all attacks {leak:.3f} by likelihood_ratio" in line
    hidden = next(line for line in told if "nothing is hidden" in line)
    near = next(line for line in told if "of chance:" in line)
    flattered = next(line for line in told if "Near a half" in line)
    assert ("mixpro" in near) == (leak < 0.6)
    assert ("mixpro" in flattered) == (leak > 0.75)
    assert "mixpro" not in hidden


def test_columns_are_shown_beside_what_is_known_without_them(tmp_path):
    told = {"nmse": 0.4, "prior_only": 1.0, "upper": 0.3, "controls": {}}
    for stack, error, auc in ([], 0.4, 0.7), ([{"name": "dropout", "rate": 0.5}], 1.2, 0.69):
        made = {"aim": "columns", "data": "synthetic_ads", "top": "linear", "seed": 0, "defense": stack}
        leakage = {"decoder": {**told, "nmse": error}}
        add_row(tmp_path / "a.jsonl", {**made, "test": {"auc": auc}, "leakage": leakage, "epsilon": None})
    (line,) = [line for line in lines(tmp_path) if line.startswith("| dropout rate=0.5 |")]
    cut = [part.strip() for part in line.strip("|").split("|")]
    assert cut == ["dropout rate=0.5", "0.690", "+0.010", "1.200", "0.300", "1.000", "none", "1"]
