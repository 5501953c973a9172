"""Which figures a report has, and what each shows in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from matplotlib.figure import Figure

from experiments import plots
from experiments.plots import Line, Mark, Panel
from experiments.reporting.compared import ALONE, UTILITY, Compared
from experiments.reporting.estimate import Estimate, over_seeds
from experiments.reporting.points import parsed, spans
from experiments.reporting.tables import ledger_of
from experiments.reporting.verdict import USUAL
from experiments.reporting.words import interval, number, points_of, share, signed_points, size

MOST_SCENES, MOST_BARS, MOST_LINES = 4, 16, 4
LEAK, LEAK_RANGE = "worst leak: best attack's advantage", (-0.03, 1.06)
RELIABILITY = "utility.test.reliability"


@dataclass(frozen=True, slots=True)
class Drawn:
    """A figure, its title, and a sentence that says what can be seen in it, for those who cannot see it too."""

    name: str
    title: str
    told: str
    figure: Figure


def fronts(scenes: Mapping[str, Sequence[Compared]]) -> list[Drawn]:
    """Return the plane of loss against leakage for each of the first scenes that was attacked and has AUCs."""
    found = [_front(f"front-{place}", scene, members) for place, (scene, members) in enumerate(scenes.items())]
    return _first([drawn for drawn in found if drawn is not None], MOST_SCENES)


def _first(drawn: Sequence[Drawn], most: int) -> list[Drawn]:
    """Return the first figures; the last of them says how many were left out."""
    shown = list(drawn[:most])
    if len(drawn) > most:
        shown[-1] = replace(shown[-1], told=f"{shown[-1].told}{_left(len(drawn) - most, 'setting')}")
    return shown


def _left(count: int, what: str) -> str:
    """Return a sentence on what a figure leaves out, empty where that is nothing."""
    if count <= 0:
        return ""
    return f" Not drawn: {count} more {what}{'s' if count > 1 else ''}; the tables have all."


def _front(name: str, scene: str, members: Sequence[Compared]) -> Drawn | None:
    base = next((each for each in members if each.baseline), None)
    marked = [each for each in members if each.auc is not None and each.worst is not None]
    if len(marked) < 2:
        return None
    marks = [_mark(each, base) for each in marked]
    if base is None:
        panel = Panel("AUC less than the best point's (points)", LEAK, y_range=LEAK_RANGE)
        best = max(mark.x for mark in marks)
        marks = [
            Mark(best - mark.x, mark.y, mark.label, mark.family, mark.tip, None, mark.y_ends, mark.front)
            for mark in marks
        ]
    else:
        zone = (0.0, 100 * USUAL, f"a loss of up to {points_of(USUAL)} of AUC")
        panel = Panel("AUC given up (points), paired by seed", LEAK, y_range=LEAK_RANGE, x_zone=zone)
    front = ", ".join(mark.label for mark in marks if mark.front)
    told = f"Left is cheaper, lower leaks less. Not beaten in both by any other: {front}."
    return Drawn(name, f"Utility against leakage{f': {scene}' if scene else ''}", told, plots.pareto(marks, panel))


def _mark(each: Compared, base: Compared | None) -> Mark:
    assert each.auc is not None
    assert each.worst is not None
    leak = f"worst leak {share(each.worst.value)}{interval(each.worst, share)}"
    tip = f"{each.point.key} {each.point.label}: AUC {number(each.auc.value, 4)}, {leak}"
    x, x_ends = 100 * each.auc.value, None
    if base is not None:
        loss = each.loss or Estimate(0.0)
        x, x_ends = 100 * loss.value, _scaled(loss)
        tip = f"{tip}, costs {points_of(loss.value)}{interval(loss, signed_points)}"
    return Mark(x, each.worst.value, each.point.label, each.point.family, tip, x_ends, each.worst.interval, each.front)


def _scaled(estimate: Estimate) -> tuple[float, float] | None:
    ends = estimate.interval
    return None if ends is None else (100 * ends[0], 100 * ends[1])


def heat(scenes: Mapping[str, Sequence[Compared]]) -> list[Drawn]:
    """Return the heat map of each of the first scenes that was attacked."""
    found: list[Drawn] = []
    for place, (scene, members) in enumerate(scenes.items()):
        attacks = list(dict.fromkeys(attack for each in members for attack in each.leaks))
        if attacks:
            values = [
                [each.leaks[attack].advantage.value if attack in each.leaks else None for each in members]
                for attack in attacks
            ]
            figure = plots.heatmap(values, attacks, [each.point.label for each in members])
            title = f"Advantage over guessing, attack by defense{f': {scene}' if scene else ''}"
            found.append(Drawn(f"heat-{place}", title, "0 % is guessing, 100 % is knowing every answer.", figure))
    return _first(found, MOST_SCENES)


def over_axes(found: Sequence[Compared]) -> list[Drawn]:
    """Return AUC and worst leak over each number that the sweep varied besides the lever: overlap, parties, epochs."""
    points = [each.point for each in found]
    drawn: list[Drawn] = []
    for key in spans(points):
        drawn += _over(found, key, "AUC", lambda each: each.auc)
        if any(each.worst is not None for each in found):
            drawn += _over(found, key, "worst leak", lambda each: each.worst)
    return drawn


def _over(found: Sequence[Compared], key: str, what: str, value: Callable[[Compared], Estimate | None]) -> list[Drawn]:
    groups: dict[str, list[tuple[float, Estimate]]] = {}
    for each in found:
        estimate = value(each)
        if estimate is not None:
            rest = ", ".join(f"{name} {told}" for name, told in each.point.where.items() if name != key)
            label = f"{each.point.label}{f' ({rest})' if rest else ''}"
            groups.setdefault(label, []).append((float(each.point.where[key]), estimate))
    lines = [
        _line(label, sorted(members, key=lambda pair: pair[0]), f"{key} {{:g}}")
        for label, members in groups.items()
        if len(members) > 1
    ]
    if not lines:
        return []
    left, lines = _left(len(lines) - len(plots.SERIES), "line"), lines[: len(plots.SERIES)]
    ticks = [x for line in lines for x in line.x]
    panel = Panel(key, what, log_x=min(ticks) > 0 and max(ticks) / min(ticks) > 20)
    name = f"over-{key.replace('.', '-')}-{what.replace(' ', '-').lower()}"
    told = f"{what} by {key}; {_bars(found)}. " + "; ".join(
        f"{line.label} goes from {line.y[0]:.3f} to {line.y[-1]:.3f}" for line in lines
    )
    return [Drawn(name, f"{what} over {key}", f"{told}.{left}", plots.curves(lines, panel))]


def _bars(found: Sequence[Compared]) -> str:
    """Return what the bars of a figure over these points are."""
    if all(len(each.point.seeds) > 1 for each in found):
        return "bars are 95 % intervals over seeds"
    return "bars are 95 % intervals, over seeds, or of a single seed over what its run resampled; some have none"


def _line(label: str, members: Sequence[tuple[float, Estimate]], at: str) -> Line:
    return Line(
        label,
        [x for x, _ in members],
        [estimate.value for _, estimate in members],
        [estimate.interval for _, estimate in members],
        [
            f"{label}, {at.format(x)}: {estimate.value:.4f}{interval(estimate, lambda end: f'{end:.4f}')}"
            for x, estimate in members
        ],
    )


def over_epsilon(found: Sequence[Compared]) -> list[Drawn]:
    """Return AUC over epsilon for each family and unit that an accountant computed two strengths of or more."""
    groups: dict[str, list[tuple[float, Estimate]]] = {}
    for each in found:
        for entry in ledger_of(each.point):
            if each.auc is not None and entry["epsilon"] and float(entry["epsilon"]) > 0:
                label = f"{each.point.family}, {entry['unit']}"
                groups.setdefault(label, []).append((float(entry["epsilon"]), each.auc))
    lines = [
        _line(label, sorted(members, key=lambda pair: pair[0]), "epsilon {:.3g}")
        for label, members in groups.items()
        if len(members) > 1
    ]
    if not lines:
        return []
    left, lines = _left(len(lines) - len(plots.SERIES), "line"), lines[: len(plots.SERIES)]
    bare = next((each for each in found if each.baseline and each.auc is not None), None)
    level = (bare.auc.value, f"{bare.point.label}: AUC {bare.auc.value:.4f}") if bare is not None and bare.auc else None
    figure = plots.curves(lines, Panel("epsilon (smaller is stronger)", "AUC", log_x=True, level=level))
    told = "AUC by the epsilon that was computed; the dotted line is the baseline. Units differ: compare within one."
    return [Drawn("over-epsilon", "What a guarantee costs", told + left, figure)]


def calibration(found: Sequence[Compared], chosen: Sequence[Compared]) -> list[Drawn]:
    """Return the reliability of the chosen points, or of the first ones, whose rows hold bins."""
    ranked = [*chosen, *(each for each in found if each not in chosen)]
    lines = [line for line in (_reliability(each) for each in ranked) if line is not None]
    if not lines:
        return []
    left, lines = _left(len(lines) - MOST_LINES, "configuration"), lines[:MOST_LINES]
    told = f"On the dashed line, what is predicted comes true as often as predicted; {_bars(found)}.{left}"
    return [Drawn("reliability", "Are its probabilities right?", told, plots.reliability(lines))]


def _reliability(each: Compared) -> Line | None:
    by_seed = [bins for row in each.point.rows if (bins := parsed(row.get(RELIABILITY)))]
    count = min((len(bins) for bins in by_seed), default=0)
    if not count:
        return None
    said = [over_seeds([bins[place][0] for bins in by_seed]) for place in range(count)]
    came = [over_seeds([bins[place][1] for bins in by_seed]) for place in range(count)]
    pairs = [(x, y) for x, y in zip(said, came, strict=True) if x is not None and y is not None]
    label = f"{each.point.label}{', ' + each.point.scene if each.point.scene else ''}"
    return Line(
        label,
        [x.value for x, _ in pairs],
        [y.value for _, y in pairs],
        [y.clipped(0.0, 1.0).interval for _, y in pairs],
        [f"{label}: predicted {x.value:.3f}, came true {y.value:.3f}" for x, y in pairs],
    )


def costs(found: Sequence[Compared]) -> list[Drawn]:
    """Return the bytes of each of the first points by kind, where they differ, else of one."""
    bars: list[tuple[str, dict[str, float]]] = []
    for each in found[:MOST_BARS]:
        sent = _sent(each.point.rows[0])
        if sent:
            where = f", {each.point.scene}" if each.point.scene else ""
            bars.append((f"{each.point.label}{where}", sent))
    if not bars:
        return []
    totals = {round(sum(sent.values()), 6) for _, sent in bars}
    left = _left(len(found) - MOST_BARS, "configuration")
    if len(totals) == 1 and not left:
        bars = [("every configuration", bars[0][1])] if len(bars) > 1 else bars
    most = max(sum(sent.values()) for _, sent in bars)
    told = f"Bytes that parties send each other in a run, by kind of message; at most {size(most * 1e6)}.{left}"
    return [Drawn("bytes", "What goes over the wire", told, plots.stacked(bars, "MB"))]


def _sent(row: Mapping[str, Any]) -> dict[str, float]:
    prefix = "cost.bytes."
    found = {name.removeprefix(prefix): value for name, value in row.items() if name.startswith(prefix)}
    return {kind: float(value) / 1e6 for kind, value in sorted(found.items()) if value}


__all__ = ["ALONE", "UTILITY", "Drawn", "calibration", "costs", "fronts", "heat", "over_axes", "over_epsilon"]
