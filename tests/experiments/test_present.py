from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest

from experiments.present import interval, number, render, size

EXAMPLE = json.loads(Path(__file__).with_name("example_row.json").read_text(encoding="utf-8"))
TITLES = [
    "What the partner's data adds",
    "Utility on test rows",
    "Leakage",
    "Privacy spent",
    "Cost",
    "Notes",
    "This run",
    "Next",
]


@pytest.fixture
def row():
    return copy.deepcopy(EXAMPLE)


@pytest.mark.parametrize("width", [80, 120])
def test_the_gain_comes_first_and_nothing_is_too_wide(row, width):
    lines = render(row, width).splitlines()
    places = [next(place for place, line in enumerate(lines) if line.startswith(title)) for title in TITLES]
    assert places == sorted(places)
    assert places[0] == 0
    assert max(map(len, lines)) <= width


def test_figures_stand_on_one_line_at_80_columns(row):
    lines = [" ".join(line.split()) for line in render(row, 80).splitlines()]
    assert "AUC +0.0583 +0.0531 to +0.0637 < 0.001 better" in lines
    assert "log loss (reduction) +0.0615 +0.0563 to +0.0668 < 0.001 better" in lines
    assert "AUC 0.9124 0.9071 to 0.9177 0.8541 0.9131 high" in lines
    assert "normalised entropy 0.5571 - 0.6688 - low" in lines
    assert "norm leak AUC 0.831 0.825 to 0.837 0.500 0.500 0.999 leaks" in lines
    assert "sign-free 0.831 0.531" in lines
    assert "time training 4.2 s, in all 9.9 s, 625 rounds by graph" in lines
    assert "memory publisher 412 MB, advertiser 432 MB" in lines
    assert any(line.startswith("sent 61.6 MB: embedding 41.2 MB, gradient 20.3 MB") for line in lines)


@pytest.mark.parametrize(
    ("ends", "reading"), [([0.01, 0.02], "better"), ([-0.02, -0.01], "worse"), ([-0.01, 0.01], "no clear difference")]
)
def test_a_gain_is_read_from_its_interval(row, ends, reading):
    row["gain"]["auc"]["ci"] = ends
    assert reading in render(row).splitlines()[2]


@pytest.mark.parametrize(
    ("ends", "reading"), [([0.6, 0.7], "leaks"), ([0.45, 0.55], "at chance"), ([0.2, 0.3], "inverted")]
)
def test_leakage_is_read_against_chance(row, ends, reading):
    row["leakage"]["norm"]["ci"] = ends
    assert next(line for line in render(row).splitlines() if line.startswith("  norm ")).endswith(reading)


def test_synthetic_data_are_named_beside_the_gain(row):
    row["data"]["synthetic"] = True
    assert "SYNTHETIC DATA" in render(row).splitlines()[0]


def test_figures_that_do_not_exist_are_dashes_or_left_out(row):
    row["gain"] = {"auc": {"value": None, "ci": None, "p": None}, "log_loss": None}
    row["utility"]["advertiser_alone"] = None
    row["leakage"]["norm"] = dict.fromkeys(row["leakage"]["norm"])
    row["cost"]["peak_rss_mb"] = {"publisher": None}
    text = render(row)
    assert "not known: no reference run" in text
    assert "norm - - - - - see notes" in [" ".join(line.split()) for line in text.splitlines()]
    assert "None" not in text
    assert "memory" not in text


def test_an_empty_row_renders():
    assert render({}).startswith("What the partner's data adds - unknown data")


def test_other_targets_than_labels_have_their_own_figures(row):
    row["leakage"] = {
        "inversion": {"mse": 0.02, "chance": 0.9, "prior_only": 0.8, "upper": 0.01, "ci": [0.01, 0.03]},
        "cluster": {"accuracy": 0.4, "chance": 0.1, "ci": [0.35, 0.45]},
    }
    lines = [" ".join(line.split()) for line in render(row).splitlines()]
    assert "inversion mse 0.020 0.010 to 0.030 0.900 0.800 0.010" in lines
    assert "cluster accuracy 0.400 0.350 to 0.450 0.100 - - leaks" in lines


def test_later_attacks_and_each_publishers_part_are_shown(row):
    row["gain"]["per_publisher"] = {"shop": {"auc": 0.02}, "news": None}
    text = render(row, later={"spectral": {"leak_auc": 0.7, "chance": 0.5, "ci": [0.6, 0.8]}})
    assert "AUC, shop's part" in text
    assert "news" not in text
    assert "spectral" in text


def test_markup_in_names_is_printed_as_it_is(row):
    row["notes"] = ["a [red]note[/red] with [brackets]"]
    assert "a [red]note[/red] with [brackets]" in render(row)


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (12_345, "12.3 kB"), (999_600, "1.0 MB"), (41_234_567, "41.2 MB")],
)
def test_sizes(count, text):
    assert size(count) == text


def test_numbers():
    assert number(0.12345) == "0.1235"
    assert number(0.1, 2, sign=True) == "+0.10"
    assert number(None) == number(True) == number("x") == "-"
    assert interval([0, 1], 1) == "0.0 to 1.0"
    assert interval(None) == interval([1]) == "-"
