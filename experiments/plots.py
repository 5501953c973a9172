"""Figures of runs and sweeps: one function a figure, from plain values to a matplotlib figure.

Every mark that a reader may ask about carries its words as the artist's gid, `tip:WORDS`, which a page turns into
hover text. Families differ in shape as well as in colour. Colours are named here once, so that a page may exchange them
for its own in the dark.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, MUTED, GRID, ZONE = "#1c2430", "#566170", "#d8dde3", "#dcefe4"
SERIES = ("#0b5cad", "#b4470b", "#0a7350", "#8a3ea8", "#a4262c", "#5c6300", "#0b6b80", "#7a5230")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p")
NAME_LETTERS = 36
"""Longer names beside bars go on in a new line, or they would leave no room for the bars."""

HEAT = LinearSegmentedColormap.from_list("leak", ["#ffffff", "#f3b6a4", "#c2452d"])
STYLE: Mapping[str, Any] = {
    "font.size": 9,
    "font.family": "sans-serif",
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "svg.fonttype": "none",
    "svg.hashsalt": "vfl",
    "path.simplify": True,
}
WIDTH = 4.7
TIP = "tip:"
Ends = tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class Mark:
    """One point of a plane, with intervals; `front` marks those that no other beats, `tip` is what hovering says."""

    x: float
    y: float
    label: str
    family: str
    tip: str
    x_ends: Ends = None
    y_ends: Ends = None
    front: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """One line: its points in order, an interval each where there is one, and what hovering over each says."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    ends: Sequence[Ends] = ()
    tips: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Panel:
    """What stands at the axes; `log_x` where values span decades, `x_zone` is a shaded stretch with its name."""

    x_label: str
    y_label: str
    log_x: bool = False
    y_range: tuple[float, float] | None = None
    x_zone: tuple[float, float, str] | None = None
    level: tuple[float, str] | None = None


def pareto(marks: Sequence[Mark], panel: Panel) -> Figure:
    """Return points of cost against leakage with their intervals; the front of unbeaten points is joined by steps."""
    with mpl.rc_context(dict(STYLE)):
        figure, axes = _axes(4.0)
        _labelled(axes, panel)
        front = sorted((mark.x, mark.y) for mark in marks if mark.front)
        if len(front) > 1:
            axes.step(
                *zip(*front, strict=True), where="post", color=MUTED, linewidth=1, linestyle=(0, (4, 3)), zorder=1
            )
        for place, family in enumerate(dict.fromkeys(mark.family for mark in marks)):
            members = [mark for mark in marks if mark.family == family]
            for mark in members:
                _cross(axes, mark, SERIES[place % len(SERIES)], MARKERS[place % len(MARKERS)])
            axes.plot(
                [], [], MARKERS[place % len(MARKERS)], color=SERIES[place % len(SERIES)], label=family, markersize=5
            )
        axes.margins(0.12, 0.14)
        if panel.y_range is not None:
            axes.set_ylim(*panel.y_range)
        _legend(figure, axes, len({mark.family for mark in marks}))
        if len(marks) <= 16:
            _name(figure, axes, marks)
        return figure


def curves(lines: Sequence[Line], panel: Panel) -> Figure:
    """Return lines with intervals over one axis: overlap, parties, epsilon, steps."""
    with mpl.rc_context(dict(STYLE)):
        figure, axes = _axes(3.5)
        _labelled(axes, panel)
        for place, line in enumerate(lines):
            colour, marker = SERIES[place % len(SERIES)], MARKERS[place % len(MARKERS)]
            axes.plot(line.x, line.y, color=colour, linewidth=1.5, label=line.label, zorder=2)
            ends = line.ends or [None] * len(line.x)
            tips = line.tips or [f"{line.label}: {y:.4g} at {x:.4g}" for x, y in zip(line.x, line.y, strict=True)]
            if len(line.x) > 60:
                continue
            for x, y, end, tip in zip(line.x, line.y, ends, tips, strict=True):
                _cross(axes, Mark(x, y, "", "", tip, None, end), colour, marker)
        if panel.log_x:
            axes.set_xscale("log")
            ticks = sorted({x for line in lines for x in line.x})
            if len(ticks) <= 8:
                axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
                axes.xaxis.set_minor_locator(NullLocator())
        _legend(figure, axes, len(lines))
        return figure


def reliability(lines: Sequence[Line]) -> Figure:
    """Return predicted probability against what came true, bin by bin; on the diagonal a model is calibrated."""
    with mpl.rc_context(dict(STYLE)):
        top = min(1.0, 1.08 * max((max([*line.x, *line.y]) for line in lines), default=1.0))
        panel = Panel("predicted probability", "share that came true", y_range=(0.0, top))
        figure = curves(lines, panel)
        axes = figure.axes[0]
        axes.plot([0, top], [0, top], color=MUTED, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
        axes.set_xlim(0, top)
        axes.set_aspect("equal")
        figure.set_size_inches(WIDTH, 4.6)
        return figure


def heatmap(values: Sequence[Sequence[float | None]], rows: Sequence[str], columns: Sequence[str]) -> Figure:
    """Return attacks by defenses: each cell the advantage over guessing, from 0 to 1, with its figure in it."""
    with mpl.rc_context({**STYLE, "axes.grid": False}):
        figure = Figure(figsize=(max(WIDTH, 1.6 + 0.8 * len(columns)), 1.6 + 0.34 * len(rows)), layout="constrained")
        axes = figure.add_subplot()
        grid = np.array([[math.nan if value is None else value for value in row] for row in values], dtype=float)
        axes.imshow(np.ma.masked_invalid(grid), cmap=HEAT, vmin=0, vmax=1, aspect="auto")
        axes.set_xticks(range(len(columns)), columns, rotation=35, ha="right", rotation_mode="anchor", color=INK)
        axes.set_yticks(range(len(rows)), rows, color=INK)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        for down, row in enumerate(values):
            for across, value in enumerate(row):
                told = "–" if value is None else f"{100 * value:.0f} %"
                text = axes.text(
                    across, down, told, ha="center", va="center", color="white" if (value or 0) > 0.72 else INK
                )
                text.set_gid(f"{TIP}{rows[down]}, {columns[across]}: {told}")
        return figure


def stacked(bars: Sequence[tuple[str, Mapping[str, float]]], x_label: str) -> Figure:
    """Return one horizontal bar a name, of parts that add up: bytes by kind, seconds by phase."""
    with mpl.rc_context({**STYLE, "axes.grid.axis": "x"}):
        names = [textwrap.fill(name, NAME_LETTERS) for name, _ in bars]
        lines = sum(name.count("\n") + 1 for name in names)
        figure = Figure(figsize=(WIDTH, 1.3 + 0.12 * len(bars) + 0.15 * lines), layout="constrained")
        axes = figure.add_subplot()
        parts = list(dict.fromkeys(part for _, values in bars for part in values))
        reached = np.zeros(len(bars))
        for place, part in enumerate(parts):
            widths = np.array([values.get(part, 0.0) for _, values in bars])
            drawn = axes.barh(range(len(bars)), widths, left=reached, color=SERIES[place % len(SERIES)], height=0.62)
            for (name, _), width, patch in zip(bars, widths, drawn, strict=True):
                patch.set_gid(f"{TIP}{name}, {part}: {width:.4g} {x_label}")
            drawn.set_label(part)
            reached += widths
        axes.set_yticks(range(len(bars)), names, color=INK)
        axes.tick_params(axis="y", length=0)
        axes.invert_yaxis()
        axes.set_xlabel(x_label)
        axes.set_xlim(0, max(float(reached.max(initial=0.0)) * 1.02, 1e-9))
        _legend(figure, axes, len(parts))
        return figure


def geometry(panels: Mapping[str, np.ndarray], classes: np.ndarray) -> Figure:
    """Return one panel a name of `(rows, 2)` places, such as projected embeddings, coloured by `(rows,)` classes."""
    with mpl.rc_context(dict(STYLE)):
        figure = Figure(figsize=(3.2 * len(panels), 3.2), layout="constrained")
        for place, (name, points) in enumerate(panels.items(), start=1):
            axes = figure.add_subplot(1, len(panels), place)
            axes.set_title(name, fontsize=9, loc="left")
            for label in np.unique(classes):
                chosen = points[classes == label]
                colour, marker = SERIES[int(label) % len(SERIES)], MARKERS[int(label) % len(MARKERS)]
                axes.scatter(*chosen.T, s=9, c=colour, marker=marker, alpha=0.6, linewidths=0, label=f"class {label}")
            axes.set_xticks([])
            axes.set_yticks([])
        figure.axes[0].legend(loc="best")
        return figure


def histogram(groups: Mapping[str, np.ndarray], x_label: str, bins: int = 30) -> Figure:
    """Return how `(n,)` values of each group spread, as shares of the group over common bins."""
    with mpl.rc_context(dict(STYLE)):
        figure, axes = _axes(3.2)
        _labelled(axes, Panel(x_label, "share of rows"))
        edges = np.histogram_bin_edges(np.concatenate(list(groups.values())), bins)
        for place, (name, values) in enumerate(groups.items()):
            weights = np.full(len(values), 1 / max(len(values), 1))
            colour = SERIES[place % len(SERIES)]
            style = ("solid", (0, (5, 2)), (0, (1, 1)))[place % 3]
            axes.hist(
                values,
                edges,
                weights=weights,
                histtype="step",
                color=colour,
                linestyle=style,
                linewidth=1.6,
                label=name,
            )
        axes.legend(loc="best")
        return figure


def _axes(height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.add_subplot()


def _labelled(axes: Axes, panel: Panel) -> None:
    axes.set_xlabel(panel.x_label)
    axes.set_ylabel(panel.y_label)
    if panel.y_range is not None:
        axes.set_ylim(*panel.y_range)
    if not panel.log_x:
        axes.xaxis.set_major_locator(MaxNLocator(6))
    if panel.x_zone is not None:
        low, high, told = panel.x_zone
        axes.axvspan(low, high, color=ZONE, linewidth=0, zorder=0).set_gid(f"{TIP}{told}")
    if panel.level is not None:
        height, told = panel.level
        axes.axhline(height, color=MUTED, linewidth=1, linestyle=(0, (1, 2)), zorder=1).set_gid(f"{TIP}{told}")


def _cross(axes: Axes, mark: Mark, colour: str, marker: str) -> None:
    """Draw a mark over its intervals."""
    if mark.x_ends is not None:
        axes.plot(mark.x_ends, [mark.y, mark.y], color=colour, linewidth=1, alpha=0.7, zorder=2, solid_capstyle="butt")
    if mark.y_ends is not None:
        axes.plot([mark.x, mark.x], mark.y_ends, color=colour, linewidth=1, alpha=0.7, zorder=2, solid_capstyle="butt")
    (drawn,) = axes.plot([mark.x], [mark.y], marker, color=colour, markersize=6, zorder=3, linestyle="none")
    drawn.set_gid(TIP + mark.tip)


def _legend(figure: Figure, axes: Axes, entries: int) -> None:
    if entries > 1:
        handles, labels = axes.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper left", ncols=2 if entries > 2 else entries, handlelength=1.4)


def _name(figure: Figure, axes: Axes, marks: Sequence[Mark]) -> None:
    """Write each mark's name beside it, at the first of eight places where it covers no mark and no other name."""
    figure.draw_without_rendering()
    frame = axes.get_window_extent()
    dots = [tuple(axes.transData.transform((mark.x, mark.y))) for mark in marks]
    scale = figure.dpi / 72
    taken = [(x - 5 * scale, y - 5 * scale, x + 5 * scale, y + 5 * scale) for x, y in dots]
    for mark, (x, y) in zip(marks, dots, strict=True):
        wide, high = 4.6 * scale * len(mark.label), 9 * scale
        offsets = [(sx * dx, dy) for dy in (7, -7, 15, -15, 0, 23, -23) for sx in (1, -1) for dx in (7,)]
        for dx, dy in offsets:
            left = x + dx * scale - (wide if dx < 0 else 0)
            box = (left, y + dy * scale - high / 2, left + wide, y + dy * scale + high / 2)
            if box[0] >= frame.x0 and box[2] <= frame.x1 and not any(_meet(box, other) for other in taken):
                break
        else:
            continue
        taken.append(box)
        side = "right" if dx < 0 else "left"
        told = axes.annotate(
            mark.label, (mark.x, mark.y), (dx, dy), textcoords="offset points", ha=side, va="center", fontsize=8
        )
        told.set_in_layout(False)


def _meet(first: tuple[float, ...], second: tuple[float, ...]) -> bool:
    return first[0] < second[2] and second[0] < first[2] and first[1] < second[3] and second[1] < first[3]
