"""Defense scores, the front and its area, and Fisher leakage: worked values and closed forms."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vfl.metrics.tradeoff import defense_score, hypervolume, pareto_front, scores_by_type
from vfl.privacy.fisher import dfil

UNIT = st.floats(0, 1, width=32)


@pytest.mark.parametrize(
    ("leak", "drop", "expected"), [(0.0, 0.0, 1.0), (1.0, 0.0, 0.5858), (0.3, 0.05, 0.8230), (0.0, -0.2, 1.0)]
)
def test_defense_score_has_its_worked_values(leak, drop, expected):
    assert defense_score(leak, drop) == pytest.approx(expected, abs=5e-5)


def test_weight_is_the_main_task_s():
    assert defense_score(1.0, 0.0, weight=0.25) == pytest.approx(1 / (1 + 0.75**0.5))
    assert defense_score(0.0, 1.0, weight=0.25) == pytest.approx(1 / (1 + 0.25**0.5))


def test_less_than_chance_is_no_leakage():
    assert defense_score(0.3, 0.0, least_leak=0.5) == 1.0


def test_an_attack_at_chance_costs_nothing_once_chance_counts_as_no_leakage():
    assert defense_score(0.5, 0.0, least_leak=0.5) == 1.0


def test_scores_are_averaged_within_types_and_then_over_them():
    by_type, overall = scores_by_type({"labels": [0.6, 0.8], "features": [0.5], "backdoor": []})
    assert by_type == {"labels": pytest.approx(0.7), "features": 0.5}
    assert overall == pytest.approx(0.6)


@given(st.lists(st.tuples(UNIT, UNIT), max_size=12))
def test_the_front_is_what_nothing_dominates(points):
    def beaten(place):
        u, leak = points[place]
        return any(
            (o, other) != (u, leak) and o >= u and other <= leak for o, other in (points[p] for p in range(len(points)))
        )

    assert {points[place] for place in pareto_front(points)} == {
        points[place] for place in range(len(points)) if not beaten(place)
    }


@given(st.lists(st.tuples(UNIT, UNIT), max_size=8))
def test_hypervolume_is_the_share_of_a_grid_that_points_reach(points):
    cells = 40
    middles = [(place + 0.5) / cells for place in range(cells)]
    reached = sum(any(u >= x and leak <= y for u, leak in points) for x, y in itertools.product(middles, middles))
    assert hypervolume(points, (0.0, 1.0), (1.0, 0.0)) == pytest.approx(reached / cells**2, abs=0.05)


def test_fisher_leakage_bounds_the_optimal_attack_on_an_orthogonal_map():
    draw = torch.Generator().manual_seed(0)
    turn = torch.linalg.qr(torch.randn(6, 6, generator=draw, dtype=torch.float64)).Q
    x = torch.randn(20000, 6, generator=draw, dtype=torch.float64)
    std = 0.3
    found = dfil(lambda row: turn @ row, x[:10], std)
    assert torch.allclose(found, torch.full((10,), 11.1111, dtype=torch.float64), atol=1e-3)
    guess = (x @ turn.T + std * torch.randn(x.shape, generator=draw, dtype=torch.float64)) @ turn
    assert float(((guess - x) ** 2).mean()) == pytest.approx(1 / float(found[0]), rel=0.02)
