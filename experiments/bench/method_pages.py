"""Write the tables of `docs/results/risa.md` and `docs/results/fedads.md` from the rows that are there.

`python -m experiments.bench.method_pages` replaces what stands between the markers of a page and leaves its prose.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy import stats

from experiments.bench.arms import (
    ABLATIONS,
    CROSS_VIEW,
    EARLY_CHOICES,
    FEDADS,
    FUSIONS,
    LITERAL,
    MAIN,
    ONE_PASS,
    PUBLISHERS,
    STUDIES,
    WITHOUT,
)
from experiments.bench.methods import Row
from experiments.bench.rows import read_rows
from experiments.intervals import half_width

RESULTS = Path("docs/results")
RISA_STUDIES, FEDADS_STUDIES = ("cifar10", "criteo", "digits"), ("fedads_criteo", "fedads_alimama", "fedads_synthetic")
RISA_HOURS, FEDADS_HOURS = 3, 2
"""The budget of each page's sweep, in hours on two cores."""

LEVEL, SAME = 0.05, 1e-6
EFFECTIVENESS = ("method", "AUC", "NLL / base", "ECE", "AUC less vanilla", "p, Holm", "NLL gain", "by rows", "passes")
Values = dict[int, float]
"""A figure by seed."""


def main() -> None:
    """Write both pages."""
    rows = {name: read_rows(RESULTS / "rows" / "methods" / f"{name}.jsonl") for name in STUDIES}
    for page, tables in (("risa.md", risa_tables(rows)), ("fedads.md", fedads_tables(rows))):
        path = RESULTS / page
        path.write_text(filled(path.read_text(encoding="utf-8"), tables), encoding="utf-8")
        sys.stderr.write(f"{path}: {len(tables)} tables\n")


def filled(page: str, tables: Mapping[str, Sequence[str]]) -> str:
    """Return a page with each table between its markers; raises `ValueError` for a table that has none."""
    for name, lines in tables.items():
        pattern = re.compile(rf"(<!-- table {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        if not pattern.search(page):
            raise ValueError(f"got no marker for the table {name!r}, allowed one; add it to the page")
        text = "".join(f"{line}\n" for line in ["", *lines, ""])
        page = pattern.sub(lambda found, text=text: found.group(1) + text + found.group(2), page)
    return page


def risa_tables(rows: Mapping[str, Sequence[Row]]) -> dict[str, list[str]]:
    """Return the tables of the page on RISA."""
    tables: dict[str, list[str]] = {"headline": list(headline(rows["cifar10"]))}
    for name in RISA_STUDIES:
        metric, own = STUDIES[name].metric, rows[name]
        tables[f"{name} main"] = list(by_overlap(own, metric))
        tables[f"{name} pairs"] = list(pairs(own, metric))
        tables[f"{name} ablations"] = list(ablations(own, metric))
        tables[f"{name} by validation"] = list(by_validation(own, metric))
        tables[f"{name} precision"] = list(precision(own))
        tables[f"{name} missing"] = missing(name, own)
    four = rows["quarters"]
    others = (*FUSIONS, "risa, no publisher rows", *WITHOUT)
    tables["quarters main"] = list(by_overlap(four, "accuracy", (*MAIN, *others)))
    tables["quarters fusions"] = list(beside_risa(four, "accuracy", (*others, "advonly")))
    tables["quarters precision"] = list(precision(four))
    tables["quarters missing"] = missing("quarters", four)
    strong = rows["publisher_synthetic"]
    tables |= {"publisher": list(strong_publisher(strong)), "publisher missing": missing("publisher_synthetic", strong)}
    return {**tables, "spent": spent([strong, four, *(rows[name] for name in RISA_STUDIES)], RISA_HOURS)}


def fedads_tables(rows: Mapping[str, Sequence[Row]]) -> dict[str, list[str]]:
    """Return the tables of the page on FedAds' methods."""
    tables = {name: list(effectiveness(rows[name])) for name in FEDADS_STUDIES}
    tables |= {f"{name} missing": missing(name, rows[name]) for name in FEDADS_STUDIES}
    return {**tables, "spent": spent([rows[name] for name in FEDADS_STUDIES], FEDADS_HOURS)}


def values(rows: Sequence[Row], arm: str, overlap: float, metric: str) -> Values:
    """Return an arm's figure by seed; the oracle's is the same at every overlap."""
    at = 1.0 if arm == "oracle" else overlap
    return {row["seed"]: row[metric] for row in rows if (row["arm"], row["overlap"]) == (arm, at)}


def interval(found: Sequence[float], sign: bool = False) -> str:
    """Return a mean with its 95 % t-interval over seeds, from three seeds on, and how many those are."""
    if not found:
        return "not run"
    shown = f"{np.mean(found):+.3f}" if sign else f"{np.mean(found):.3f}"
    if len(found) < 3:
        return f"{shown} ({len(found)})"
    return f"{shown} ± {half_width(found):.3f} ({len(found)})"


def difference(ours: Values, theirs: Values) -> str:
    """Return the mean difference over seeds that both have, its interval, and p of the paired t-test."""
    gaps = _gaps(ours, theirs)
    p = paired_p(gaps)
    return interval(gaps, sign=True) + ("" if p is None else f", p {p:.3f}")


def _gaps(ours: Values, theirs: Values) -> list[float]:
    return [ours[seed] - theirs[seed] for seed in sorted(ours.keys() & theirs.keys())]


def paired_p(gaps: Sequence[float]) -> float | None:
    """Return the two-sided p of a paired t-test from the differences, `None` below three seeds or without spread."""
    if len(gaps) < 3 or np.ptp(gaps) < SAME:
        return None
    return float(stats.ttest_1samp(gaps, 0.0).pvalue)


def holm(found: Sequence[float | None]) -> list[float | None]:
    """Return p-values corrected by Holm for as many tests as there are."""
    known = sorted((p, place) for place, p in enumerate(found) if p is not None)
    corrected, most = list(found), 0.0
    for rank, (p, place) in enumerate(known):
        most = max(most, min(1.0, p * (len(known) - rank)))
        corrected[place] = most
    return corrected


def by_overlap(rows: Sequence[Row], metric: str, arms: Sequence[str] = tuple(MAIN)) -> Iterator[str]:
    """Yield a line an arm, a column an overlap."""
    overlaps = _overlaps(rows)
    yield from _head([metric, *(f"{overlap:.0%}" for overlap in overlaps)])
    for arm in arms:
        cells = [interval(list(values(rows, arm, at, metric).values())) for at in overlaps]
        yield _line([arm, *cells])


def pairs(rows: Sequence[Row], metric: str) -> Iterator[str]:
    """Yield paired differences of the main arms at each overlap."""
    overlaps = _overlaps(rows)
    yield from _head([f"{metric}, paired", *(f"{overlap:.0%}" for overlap in overlaps)])
    against = [(arm, "vanilla") for arm in ("local_all", "advonly", "risa", "oracle")]
    against += [
        ("risa", "advonly"),
        ("risa", "local_all"),
        ("advonly", "local_all"),
        ("risa", "risa, no publisher rows"),
    ]
    for ours, theirs in against:
        cells = [difference(values(rows, ours, at, metric), values(rows, theirs, at, metric)) for at in overlaps]
        yield _line([f"{ours} - {theirs}", *cells])


def beside_risa(rows: Sequence[Row], metric: str, arms: Sequence[str]) -> Iterator[str]:
    """Yield paired differences of arms to RISA at each overlap."""
    overlaps = _overlaps(rows)
    yield from _head([f"{metric} less risa, paired", *(f"{overlap:.0%}" for overlap in overlaps)])
    for arm in arms:
        risa = [values(rows, "risa", at, metric) for at in overlaps]
        yield _line(
            [arm, *(difference(values(rows, arm, at, metric), own) for at, own in zip(overlaps, risa, strict=True))]
        )


def ablations(rows: Sequence[Row], metric: str) -> Iterator[str]:
    """Yield each ablation's figure and its paired difference to RISA's, where few rows are aligned."""
    few = [overlap for overlap in _overlaps(rows) if overlap in (0.01, 0.05)]
    yield from _head([metric, *(f"{overlap:.0%}{what}" for overlap in few for what in ("", " less risa"))])
    for arm in ("risa", "advonly", *ABLATIONS, *WITHOUT, *LITERAL, *CROSS_VIEW, *PUBLISHERS, *EARLY_CHOICES):
        cells: list[str] = []
        for at in few:
            own = values(rows, arm, at, metric)
            cells += [interval(list(own.values())), difference(own, values(rows, "risa", at, metric))]
        if arm == "risa" or any(cell != "not run" for cell in cells):
            yield _line([arm, *cells])


def by_validation(rows: Sequence[Row], metric: str) -> Iterator[str]:
    """Yield, where few rows are aligned, RISA's setting with the least validation loss and what it tests at.

    Settings are those with publishers' rows that every seed has a row of; the default is one of them.
    """
    yield from _head(
        ["overlap", "settings", "least validation loss", metric, "less vanilla", "less advonly", "default is"]
    )
    for at in (0.01, 0.05):
        losses = {arm: values(rows, arm, at, "valid_loss") for arm in ("risa", *ABLATIONS, *LITERAL)}
        seeds = losses["risa"].keys()
        whole = {arm: found for arm, found in losses.items() if found.keys() == seeds and arm.startswith("risa")}
        ranked = sorted(
            (arm for arm in whole if arm != "risa, no publisher rows"),
            key=lambda arm: float(np.mean(list(whole[arm].values()))),
        )
        own = values(rows, ranked[0], at, metric)
        gaps = [difference(own, values(rows, other, at, metric)) for other in ("vanilla", "advonly")]
        place = f"{ranked.index('risa') + 1} of {len(ranked)}"
        yield _line([f"{at:.0%}", str(len(ranked)), ranked[0], interval(list(own.values())), *gaps, place])


def strong_publisher(rows: Sequence[Row]) -> Iterator[str]:
    """Yield each arm where only publishers have rows of their own, and its paired differences in AUC and log loss."""
    yield from _head(["arm", "auc", "less advonly", "log loss less advonly"])
    overlap = next((row["overlap"] for row in rows if row["arm"] == "advonly"), 0.0)
    for arm in dict.fromkeys(row["arm"] for row in rows):
        found = [values(rows, arm, overlap, metric) for metric in ("auc", "log_loss")]
        theirs = [values(rows, "advonly", overlap, metric) for metric in ("auc", "log_loss")]
        gaps = [difference(own, other) for own, other in zip(found, theirs, strict=True)]
        yield _line([arm, interval(list(found[0].values())), *(gaps if arm != "advonly" else ("", ""))])


def precision(rows: Sequence[Row]) -> Iterator[str]:
    """Yield how right pseudo-labels of chosen and of other publisher-only rows were in the last round."""
    yield from _head(["arm", "overlap", "chosen", "right, chosen", "right, others", "gap"])
    for arm in ("risa", *ABLATIONS, *LITERAL, *FUSIONS, *PUBLISHERS, *EARLY_CHOICES):
        for at in _overlaps(rows):
            noted = [row["method"] for row in rows if (row["arm"], row["overlap"]) == (arm, at)]
            both = [(each.get("precision_selected"), each.get("precision_rejected")) for each in noted]
            known = [(chosen, other) for chosen, other in both if chosen is not None and other is not None]
            if known:
                gaps = [chosen - other for chosen, other in known]
                columns = [interval(list(column)) for column in zip(*known, strict=True)]
                count = f"{np.mean([each['selected'] for each in noted]):.0f}"
                yield _line([arm, f"{at:.0%}", count, *columns, interval(gaps, sign=True)])


def headline(rows: Sequence[Row]) -> Iterator[str]:
    """Yield both readings of a gain at 1 % overlap: points, and relative to the reference."""
    yield from _head(["CIFAR-10, 1 %", "accuracy", "over local", "over vanilla"])
    for arm in ("local_all", "advonly", "risa"):
        own, cells = values(rows, arm, 0.01, "accuracy"), list[str]()
        for reference in ("local", "vanilla"):
            other = values(rows, reference, 0.01, "accuracy")
            both = sorted(own.keys() & other.keys())
            points = [own[seed] - other[seed] for seed in both]
            relative = [own[seed] / other[seed] - 1 for seed in both]
            cells.append(f"{100 * np.mean(points):+.1f} points, {np.mean(relative):+.0%}" if both else "not run")
        yield _line([arm, interval(list(own.values())), *cells])


def effectiveness(rows: Sequence[Row]) -> Iterator[str]:
    """Yield FedAds' table: utility, the paired gain over vanilla by seed, and by test rows within each seed."""
    yield from _head(EFFECTIVENESS)
    overlap = next((row["overlap"] for row in rows if row["arm"] == "vanilla"), 0.2)
    arms = [arm for arm in (*MAIN, *FEDADS, *ONE_PASS) if values(rows, arm, overlap, "auc")]
    gaps = {arm: _gaps(values(rows, arm, overlap, "auc"), values(rows, "vanilla", overlap, "auc")) for arm in arms}
    corrected = holm([paired_p(gaps[arm]) for arm in arms])
    for arm, p in zip(arms, corrected, strict=True):
        own = [row for row in rows if row["arm"] == arm]
        cells = [interval([row[name] for row in own]) for name in ("auc", "ne", "ece")]
        tested = [row["gain"] for row in own if "gain" in row]
        nll = interval([each["log_loss"]["value"] for each in tested], sign=True) if tested else ""
        by_rows = f"{_decided(tested, 1)}:{_decided(tested, -1)} of {len(tested)}" if tested else ""
        gain = "" if arm == "vanilla" else interval(gaps[arm], sign=True)
        passes = f"{np.mean([row['passes'] for row in own]):.0f}"
        yield _line([arm, *cells, gain, "" if p is None else f"{p:.3f}", nll, by_rows, passes])


def _decided(tested: Sequence[Row], way: int) -> int:
    """Return in how many runs the bootstrap over test rows finds a gain in AUC of this sign."""
    return sum(each["auc"]["p"] < LEVEL and each["auc"]["value"] * way > 0 for each in tested)


def missing(name: str, rows: Sequence[Row]) -> list[str]:
    """Return a sentence that names the cells of a study that have no row."""
    done = {(row["arm"], row["overlap"], row["seed"]) for row in rows}
    wanted = [cell for tier in STUDIES[name].cells() for cell in tier]
    lacking: dict[tuple[str, float], int] = {}
    for arm, overlap, seed in wanted:
        if (arm, overlap, seed) not in done:
            lacking[arm, overlap] = lacking.get((arm, overlap), 0) + 1
    if not lacking:
        return [f"All {len(wanted)} runs were made."]
    named: dict[str, list[str]] = {}
    for (arm, overlap), count in lacking.items():
        named.setdefault(f"{overlap:.0%}, {count} of {STUDIES[name].seeds} seeds", []).append(arm)
    told = "; ".join(f"{where}: {', '.join(f'`{arm}`' for arm in arms)}" for where, arms in named.items())
    return [f"Not run, cut for time ({sum(lacking.values())} of {len(wanted)} runs): {told}."]


def spent(studies: Sequence[Sequence[Row]], hours: int) -> list[str]:
    """Return a sentence on how much of the sweep's budget the rounds of its runs took."""
    taken = [row["wall_s"] for rows in studies for row in rows]
    by_clock = f"The {len(taken)} runs of this page took {sum(taken) / 3600:.1f} h of one process by the clock"
    return [f"{by_clock}, reading and testing left out; the budget is {hours} h on two cores, {2 * hours} h of one."]


def _overlaps(rows: Sequence[Row]) -> list[float]:
    return sorted({row["overlap"] for row in rows if row["arm"] != "oracle"})


def _head(cells: Sequence[str]) -> list[str]:
    return [_line(cells), "|---" * len(cells) + "|"]


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
