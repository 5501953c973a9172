"""The tables of the defenses of a publisher's columns, from the rows of the sweep alone."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from experiments.bench.defense_stacks import AIMS, SEEDS, TOLD_TOPS, Stack
from experiments.bench.defense_sweep import Cell
from experiments.bench.rows import spread, stack_name

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class View:
    """One table: a title, an aim and a data set, the attack shown and its figure."""

    title: str
    aim: str
    data: str
    attack: str
    figure: str
    told: str


VIEWS = (
    View(
        "Columns of the generator's publisher, by its embeddings",
        "columns",
        "synthetic_ads",
        "decoder",
        "nmse",
        "squared error over variance of 7 numbers",
    ),
    View(
        "A column of Criteo's publisher, by its embeddings",
        "columns",
        "criteo",
        "attribute_inference",
        "accuracy",
        "accuracy at the 24 values of C14",
    ),
    View(
        "Columns of digits' publisher, by the scores of a logistic regression",
        "scores",
        "digits",
        "equality_solving",
        "nmse",
        "squared error over variance of 32 numbers",
    ),
)


def column_lines(found: Mapping[str, Row]) -> Iterator[str]:
    """Yield the Markdown lines of all views that have a row."""
    for view in VIEWS:
        for top in AIMS[view.aim].tops:
            by_stack = {stack_name(stack): _rows(found, view, top, stack) for stack in AIMS[view.aim].stacks}
            made = {name: rows for name, rows in by_stack.items() if rows}
            if made:
                yield from _table(view, top, made)


def _rows(found: Mapping[str, Row], view: View, top: str, stack: Stack) -> list[Row]:
    keys = [Cell(view.data, top, seed, stack, view.aim).key for seed in range(SEEDS)]
    return [found[key] for key in keys if key in found]


def _table(view: View, top: str, made: Mapping[str, list[Row]]) -> Iterator[str]:
    yield f"### {view.title}, {TOLD_TOPS[top]}"
    yield ""
    figures = f"{view.told} | all rows known | nothing sent"
    yield f"| defense | test AUC | less than undefended | {figures} | epsilon | seeds |"
    yield "| --- | --- | --- | --- | ---: | ---: | ---: | ---: |"
    bare = {row["seed"]: row["test"]["auc"] for row in made.get("none", [])}
    for name, rows in made.items():
        lost = [bare[row["seed"]] - row["test"]["auc"] for row in rows if row["seed"] in bare]
        told = [row["leakage"][view.attack] for row in rows]
        upper = [each["upper"] for each in told if "error" not in each]
        prior = [each["prior_only"] for each in told if "error" not in each]
        epsilon = rows[0]["epsilon"]
        cut = [
            name,
            spread([row["test"]["auc"] for row in rows]),
            spread(lost, sign=True) if lost and name != "none" else "",
            spread([each[view.figure] for each in told]) if len(upper) == len(told) else "failed",
            f"{statistics.mean(upper):.3f}" if upper else "",
            f"{statistics.mean(prior):.3f}" if prior else "",
            "none" if epsilon is None else f"{epsilon:.3g}",
            str(len(rows)),
        ]
        yield f"| {' | '.join(cut)} |"
    yield ""
