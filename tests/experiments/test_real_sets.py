"""The page on real sets says what its rows say, by hand."""

from __future__ import annotations

import pytest

from experiments import real_sets


def row(name: str, seed: int, alone: float, joint: float, **changed):
    plain = {"set": name, "seed": seed, "rows": 1000, "test": "0.25", "metric": "auc", "alone": alone, "joint": joint}
    return {**plain, "one_table": [0.6, 0.7], "steps": 2000, "chosen": 100, **changed}


ROWS = [
    *(row("adult", seed, 0.6, 0.7 + 0.01 * seed) for seed in range(3)),
    *(row("avazu", seed, 0.6, 0.6 + 0.1 * (seed - 1), one_table=[0.9, 0.95]) for seed in range(3)),
    *(row("mnist", seed, 0.5, 0.9, one_table=None, chosen=1900, metric="accuracy") for seed in range(3)),
]


def test_only_gains_with_an_interval_above_nothing_count_as_ahead():
    said = real_sets.verdict(ROWS)
    assert said.startswith(
        "Joint is ahead of alone, its interval above 0, on 2 of 3 sets; not on avazu (+0.000 ± 0.248)."
    )
    assert "advertiser's columns alone on: avazu (+0.300 ± 0.248);" in said
    assert "both parties' on: avazu (+0.350 ± 0.248)." in said
    assert said.endswith("with some seed: mnist.")


def test_a_line_of_the_table_has_means_and_t_intervals():
    """Gains .1, .11, .12: mean .11, spread .01, t of two degrees of freedom 4.303, over the root of three."""
    line = next(line for line in real_sets.table(ROWS) if line.startswith("| adult"))
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[5:8] == ["0.600 ± 0.000", "0.710 ± 0.025", "+0.110 ± 0.025"]
    assert cells[8:] == ["100 of 2,000", "0.600 ± 0.000", "0.700 ± 0.000"]


@pytest.mark.parametrize(("chosen", "budgets"), [(1800, [2000]), (1801, [2000, 6000])])
def test_a_set_that_is_best_at_its_end_gets_the_longer_budget(monkeypatch, chosen, budgets):
    asked: list[int] = []

    def measure(name: str, seed: int, budget: int):
        asked.append(budget)
        return row(name, seed, 0.6, 0.7, chosen=chosen if seed == 1 else 100, steps=2000)

    monkeypatch.setattr(real_sets, "measure", measure)
    found = real_sets.measured("adult", 2)
    assert asked == [budget for budget in budgets for _ in range(2)]
    assert [each["seed"] for each in found] == [0, 1]
