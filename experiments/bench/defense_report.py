"""The tables of the defense sweep, from its rows alone.

`python -m experiments.bench.defense_report` prints them; `--write docs/results/defenses.md` puts them between that
page's two marks.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.bench import guards
from experiments.bench.column_report import column_lines
from experiments.bench.defense_findings import findings, mixpro_findings
from experiments.bench.defense_stacks import AIMS, SEEDS, SETS, TOLD_TOPS, TOPS, WATCHED
from experiments.bench.defense_sweep import LABELS, ROWS, Cell, cells, known
from experiments.bench.rows import put, spread, stack_name
from vfl.metrics.tradeoff import pareto_front

Row = Mapping[str, Any]
TOLD_SETS = {"synthetic_ads": "generator, CVR 0.6 %", "criteo": "Criteo, 10,000 rows"}
ATTACKS = {"norm": "norm", "direction": "direction", "hint_norm": "hint", "likelihood_ratio": "ratio"}


@dataclass(frozen=True, slots=True)
class Group:
    """The runs of one stack at one data set and top, one a seed."""

    stack: tuple[Mapping[str, Any], ...]
    rows: tuple[Row, ...]

    @property
    def name(self) -> str:
        """What the stack is called in a table."""
        return stack_name(self.stack)

    @property
    def auc(self) -> list[float]:
        """The test AUC by seed."""
        return [row["test"]["auc"] for row in self.rows]

    @property
    def worst(self) -> tuple[str, list[float]]:
        """The attack whose sign-free leak AUC is greatest on average, and that by seed."""
        by_attack = {name: found for name in ATTACKS if (found := self.leak(name, "sign_free"))}
        name = max(by_attack, key=lambda each: statistics.mean(by_attack[each]))
        return name, by_attack[name]

    def leak(self, attack: str, figure: str) -> list[float]:
        """Return a figure of an attack by seed; none at all where it failed at one, for that says nothing of safety.

        It is 0.5 where the attack went well and no batch could be marked.
        """
        told = [row["leakage"][attack] for row in self.rows]
        return [] if any("error" in each for each in told) else [_or_chance(each.get(figure)) for each in told]

    def chance(self, attack: str) -> float:
        """Return what random scores would give the sign-free leak AUC of an attack."""
        return statistics.mean(row["leakage"][attack]["chance"]["sign_free"] for row in self.rows)


def _or_chance(value: float | None) -> float:
    return 0.5 if value is None else value


def groups(found: Mapping[str, Row], data: str, top: str) -> list[Group]:
    """Return the groups that have a row, in the order of the sweep."""
    made: list[Group] = []
    for stack in AIMS[LABELS].stacks:
        keys = [Cell(data, top, seed, stack).key for seed in range(SEEDS)]
        rows = tuple(found[key] for key in keys if key in found)
        if rows:
            made.append(Group(stack, rows))
    return made


def lines(rows: Path) -> Iterator[str]:
    """Yield the Markdown lines of all tables."""
    found = known(rows)
    places = {
        f"{TOLD_SETS[data]}, {TOLD_TOPS[top]}": made
        for data in SETS
        for top in TOPS
        if (made := groups(found, data, top))
    }
    yield "### In words, from the rows"
    yield ""
    for title, made in places.items():
        yield from findings(title, made)
    yield ""
    yield "### FedAds' claim for MixPro, from the rows"
    yield ""
    for title, made in places.items():
        yield from mixpro_findings(title, made)
    yield ""
    for title, made in places.items():
        yield from _table(title, made)
    yield from _mixpro(found)
    yield from column_lines(found)
    yield from _guards(found)
    yield "### Guards where a publisher spoils a share of its rows"
    yield ""
    yield from guards.table(rows.parent / guards.ROWS.name)
    yield from _left_out(found)


def _table(title: str, made: Sequence[Group]) -> Iterator[str]:
    yield f"### {title}"
    yield ""
    yield (
        "| defense | test AUC | less than undefended, same seeds | greatest sign-free leak AUC | by | by chance "
        "| ratio, all labels known | label epsilon | seeds |"
    )
    yield "| --- | --- | --- | --- | --- | ---: | ---: | ---: | ---: |"
    front = _front(made)
    bare = {row["seed"]: row["test"]["auc"] for row in made[0].rows} if not made[0].stack else {}
    for place, group in enumerate(made):
        worst, leaks = group.worst
        lost = [bare[row["seed"]] - row["test"]["auc"] for row in group.rows if row["seed"] in bare]
        epsilon = group.rows[0]["epsilon"]
        cut = [
            f"**{group.name}**" if place in front else group.name,
            spread(group.auc),
            spread(lost, sign=True) if group.stack and lost else "",
            spread(leaks),
            ATTACKS[worst],
            f"{group.chance(worst):.3f}",
            f"{statistics.mean(upper):.3f}" if (upper := group.leak("likelihood_ratio", "upper")) else "failed",
            "none" if epsilon is None else f"{epsilon:.3g}",
            str(len(group.rows)),
        ]
        yield f"| {' | '.join(cut)} |"
    yield ""


def _front(made: Sequence[Group]) -> set[int]:
    """Return the places that no other beats in both mean utility and mean leak, among stacks with all their seeds."""
    most = max(len(group.rows) for group in made)
    full = [place for place, group in enumerate(made) if len(group.rows) == most]
    points = [(statistics.mean(made[place].auc), statistics.mean(made[place].worst[1])) for place in full]
    return {full[place] for place in pareto_front(points)}


def _mixpro(found: Mapping[str, Row]) -> Iterator[str]:
    yield "### MixPro: the attacker who keeps its sign, and the one who does not"
    yield ""
    told = [f"{name}, {what}" for name in ("norm", "direction") for what in ("signed", "sign-free", "pooled")]
    yield f"| data and top | defense | {' | '.join(told)} | sign-free by chance |"
    yield f"| --- | --- |{' ---: |' * (len(told) + 1)}"
    for data in SETS:
        for top in TOPS:
            for group in groups(found, data, top):
                if group.stack and group.stack[0]["name"] != "mixpro":
                    continue
                figures = [
                    f"{statistics.mean(group.leak(attack, figure)):.3f}"
                    for attack in ("norm", "direction")
                    for figure in ("leak_auc", "sign_free", "leak_auc_pooled")
                ]
                where = f"{TOLD_SETS[data]}, {TOLD_TOPS[top]}"
                yield f"| {where} | {group.name} | {' | '.join(figures)} | {group.chance('norm'):.3f} |"
    yield ""


def _guards(found: Mapping[str, Row]) -> Iterator[str]:
    yield "### Guards on honest runs: rows flagged, all of them false alarms"
    yield ""
    yield "| data and top | guard, its party, and whose messages | rows flagged, share [least, greatest seed] | seeds |"
    yield "| --- | --- | ---: | ---: |"
    for data in SETS:
        for top in TOPS:
            for group in groups(found, data, top):
                if group.stack != WATCHED:
                    continue
                shares: dict[str, list[float]] = {}
                for row in group.rows:
                    for line in row["integrity"]:
                        told = f"{line['defense']} at the {line['party']}, of the {line['sender']}"
                        shares.setdefault(told, []).append(line["flagged"] / line["rows"])
                for told, share in shares.items():
                    cut = f"{statistics.mean(share):.5f} [{min(share):.5f}, {max(share):.5f}]"
                    yield f"| {TOLD_SETS[data]}, {TOLD_TOPS[top]} | {told} | {cut} | {len(share)} |"
    yield ""


def _left_out(found: Mapping[str, Row]) -> Iterator[str]:
    missing: dict[tuple[str, str, str], dict[str, int]] = {}
    for cell in cells():
        if cell.key not in found:
            name = stack_name(cell.stack)
            by_name = missing.setdefault((cell.aim, cell.data, cell.top), {})
            by_name[name] = by_name.get(name, 0) + 1
    yield "### Not run"
    yield ""
    if not missing:
        yield "Every cell of the sweep was run."
    for (aim, data, top), names in missing.items():
        told = ", ".join(f"{name} ({count} seeds)" for name, count in names.items())
        where = f"{TOLD_SETS.get(data, data)}, {TOLD_TOPS.get(top, top)}"
        yield f"- {where}{'' if aim == LABELS else f', {aim}'}: {told}"


def main() -> None:
    """Print the tables or write them into a page."""
    parser = argparse.ArgumentParser(prog="python -m experiments.bench.defense_report", description=__doc__)
    parser.add_argument("--rows", type=Path, default=ROWS)
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    if options.write:
        put(options.write, lines(options.rows))
    else:
        sys.stdout.write("\n".join(lines(options.rows)) + "\n")


if __name__ == "__main__":
    main()
