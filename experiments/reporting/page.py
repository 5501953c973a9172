"""Rows -> a self-contained page, Markdown, CSV or a PNG sheet.

The page has everything. Markdown has its words and tables at the usual tolerance, without figures or glossary; CSV the
plain figures of each point and attack; the sheet the figures alone. All are made from the same points and estimates.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from experiments.reporting import figures, tables
from experiments.reporting.compared import ALONE, Compared, compare
from experiments.reporting.estimate import Estimate
from experiments.reporting.figures import Drawn
from experiments.reporting.leaks import summaries
from experiments.reporting.points import ACTIVE, Point, Study, missing, parsed, study
from experiments.reporting.reproduce import recipes
from experiments.reporting.settings import comparable, of_settings
from experiments.reporting.svg import inline
from experiments.reporting.tables import Table
from experiments.reporting.verdict import TOLERANCES, USUAL, Verdict, verdict
from experiments.reporting.words import interval, points_of, share, signed_points

MOST_HASHES, MOST_GAINS = 4, 2
MOST_HEAT = 8
"""Scenes beyond this many have their figures in the table of all attacks alone."""


@dataclass(frozen=True)
class Report:
    """Everything a report says: the study, its points, a verdict a tolerance and scene, tables and figures."""

    title: str
    study: Study
    scenes: Mapping[str, Sequence[Compared]]
    verdicts: Mapping[float, Sequence[Verdict]]

    @property
    def found(self) -> list[Compared]:
        """All points, scene by scene."""
        return [each for members in self.scenes.values() for each in members]

    @property
    def points(self) -> tuple[Point, ...]:
        """All points, bare."""
        return self.study.points


def of_rows(rows: Sequence[Mapping[str, Any]], title: str) -> Report:
    """Return the report of the rows of a sweep, or of one run."""
    asked = study(rows)
    found = compare(asked)
    scenes = {scene: [each for each in found if each.point.scene == scene] for scene in asked.scenes}
    verdicts = {tolerance: _verdicts(asked, scenes, tolerance) for tolerance in TOLERANCES}
    return Report(title, asked, scenes, verdicts)


def _verdicts(asked: Study, scenes: Mapping[str, Sequence[Compared]], tolerance: float) -> list[Verdict]:
    """Return one answer a scene; one over all of them where settings are what was swept and can be compared."""
    points = [each for members in scenes.values() for each in members]
    if comparable(asked):
        return [of_settings(points, tolerance)]
    return [verdict(asked, members, tolerance) for members in scenes.values()]


def html(report: Report) -> str:
    """Return the page: one file that refers to nothing outside it."""
    import jinja2

    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"points": points_of, "share": share}
    source = files("experiments.reporting") / "files"
    parts = {name: (source / f"report.{name}").read_text(encoding="utf-8") for name in ("css", "js")}
    template = environment.from_string((source / "report.html.j2").read_text(encoding="utf-8"))
    return template.render(**context(report), **parts)


def context(report: Report) -> dict[str, Any]:
    """Return what the page's template is filled with."""
    found = report.found
    drawn = {
        "fronts": figures.fronts(report.scenes),
        "curves": [*figures.over_axes(found), *figures.over_epsilon(found)],
        "calibration": figures.calibration(found, _chosen(report)),
        "costs": figures.costs(found),
    }
    return {
        "report": report,
        "usual": USUAL,
        "facts": facts(report),
        "charts": {place: [_chart(each) for each in several] for place, several in drawn.items()},
        "tables": {table.name: table for table in all_tables(report)},
        "heats": heats(report),
        "threat": threat(report),
        "notes": notes(report),
        "members": members(report),
        "recipes": [{"point": point, "runs": recipes(point)} for point in report.points],
    }


def all_tables(report: Report) -> list[Table]:
    """Return every table of the report but the heat maps, those that have a row."""
    found = report.found
    made = [
        tables.points_table(found, report.study.lever),
        tables.volume_table(report.scenes),
        tables.leaks_table(found) if any(each.leaks for each in found) else None,
        tables.calibration_table(found),
        tables.wire_table(found),
        tables.ledger_table(found),
        tables.cost_table(found),
        tables.failed_table(report.study.failed),
    ]
    return [table for table in made if table is not None]


def heats(report: Report) -> list[Table]:
    """Return the heat map of each scene as a table, for the first scenes."""
    made = [tables.heat_table(members, f"heat-{place}") for place, members in enumerate(report.scenes.values())]
    return [table for table in made if table is not None][:MOST_HEAT]


def drawings(report: Report) -> list[Drawn]:
    """Return every figure, for a sheet without a page around it."""
    found = report.found
    return [
        *figures.fronts(report.scenes),
        *figures.heat(report.scenes),
        *figures.over_axes(found),
        *figures.over_epsilon(found),
        *figures.calibration(found, _chosen(report)),
        *figures.costs(found),
    ]


def facts(report: Report) -> dict[str, str]:
    """Return the few facts that a reader needs before any figure."""
    done = [row for point in report.points for row in point.rows]
    seeds = sorted({int(row["seed"]) for row in done})
    told = {
        "data": _data(done),
        "trials": f"{len(done)} finished" + (f", {len(report.study.failed)} failed" if report.study.failed else ""),
        "configurations": str(len(report.points)),
        "seeds": f"{len(seeds)} ({', '.join(map(str, seeds[:8]))}{', ..' if len(seeds) > 8 else ''})",
    }
    more = {"base rate": _base_rates(done), "the partner's data adds": _gain(report), "made with": _made_with(done)}
    return {**told, **{name: text for name, text in more.items() if text}}


def _base_rates(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the share of positives in the test rows, of each data set: its range, where trials differ in it."""
    rates: dict[str, set[str]] = {}
    for row in sorted(rows, key=lambda row: float(row.get("data.base_rate") or 0.0)):
        rate = row.get("data.base_rate")
        if not missing(rate) and rate is not None:
            rates.setdefault(str(row.get("data.name")), set()).add(share(float(rate)))
    told = {
        name: " to ".join(dict.fromkeys((min(found, key=_percent), max(found, key=_percent))))
        for name, found in rates.items()
    }
    return "; ".join(f"{name + ': ' if len(told) > 1 else ''}{rate} positive" for name, rate in sorted(told.items()))


def _percent(text: str) -> float:
    return float(text.partition("\u00a0")[0])


def _made_with(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the versions of the package and the hashes of the data that the rows were made with."""
    versions = sorted({str(row["version"]) for row in rows if not missing(row.get("version"))})
    hashes = sorted(
        {f"{row['data.name']} {str(row['data.sha256'])[:12]}" for row in rows if not missing(row.get("data.sha256"))}
    )
    package = f"vfl-platform {' and '.join(versions)}" if versions else ""
    shown = hashes[:MOST_HASHES] + ([f"{len(hashes) - MOST_HASHES} more cuts"] if len(hashes) > MOST_HASHES else [])
    return ", ".join(part for part in (package, f"data {', '.join(shown)}" if shown else "") if part)


def _data(rows: Sequence[Mapping[str, Any]]) -> str:
    names = {
        f"{'synthetic: ' if row.get('data.synthetic') else ''}{row.get('data.name')}, {int(row['data.rows']):,} rows"
        for row in rows
        if not missing(row.get("data.rows"))
    }
    return "; ".join(sorted(names)) or "-"


def _gain(report: Report) -> str:
    """Return what joint training without a defense adds over the advertiser alone, in points of AUC."""
    told: list[str] = []
    for scene, members in report.scenes.items():
        base = next((each for each in members if each.baseline), None)
        estimate = None if base is None else base.point.estimate("gain.auc.value", "gain.auc.ci")
        if estimate is not None:
            told.append(f"{scene + ': ' if scene else ''}{_added(estimate)}")
    left = len(told) - MOST_GAINS
    shown = told[:MOST_GAINS] + ([f"{left} more setting{'s' if left > 1 else ''} below"] if left > 0 else [])
    return "; ".join(shown)


def _added(estimate: Estimate) -> str:
    return f"{points_of(estimate.value)} of AUC{interval(estimate, signed_points)}"


def threat(report: Report) -> list[str]:
    """Return, in sentences, who is assumed to look, with what, and what is not covered."""
    rows = [row for point in report.points for row in point.rows]
    told: list[str] = []
    for row in rows:
        hints = {name: row.get(f"config.threat.hints.{name}") for name in GRANTS}
        granted = [GRANTS[name].format(value) for name, value in hints.items() if not missing(value) and value]
        looking = " and ".join(parsed(row.get("config.threat.adversaries")) or ["nobody"])
        tampers = row.get(ACTIVE)
        does = f"tampers with what it sends or trains ({tampers})" if tampers else "follows the protocol"
        line = f"The adversary is {looking}, which {does} and looks at what it sent and received."
        line += f" It is granted {', '.join(granted)}." if granted else " It is granted nothing beyond that."
        if line not in told:
            told.append(line)
    relay = any(row.get("config.transport") == "relay" for row in rows)
    told.append(
        "Messages pass through the coordinator: it sees their sizes, and their content where they are not encrypted."
        if relay
        else "Tensors go from party to party; the coordinator sees step numbers, row counts, losses and sizes."
    )
    tampering = any(row.get(ACTIVE) for row in rows)
    breaking = "parties that break the protocol in other ways than these attacks" if tampering else BREAKING
    told.append(f"Not covered: {breaking}, what is learned outside the run, and attacks that are not in the table.")
    return told


BREAKING = "parties that break the protocol"
GRANTS = {
    "labelled_rows": "up to {} rows whose label it knows (never scored)",
    "known_rows": "up to {} rows whose features at the other parties it knows",
    "prior": "the share of each class",
    "scores": "the model's scores of test rows",
    "victim_models": "the other parties' trained networks",
}


def members(report: Report) -> list[tuple[str, str, str]]:
    """Return kind, name and what it does, of every attack and defense in the report."""
    asked = {"attack": "config.attack", "defense": "config.defense"}
    found: dict[tuple[str, str], None] = {}
    for kind, column in asked.items():
        for point in report.points:
            for row in point.rows:
                found |= {(kind, str(spec["name"])): None for spec in parsed(row.get(column)) or ()}
    return [(kind, name, summaries(kind).get(name, "not one of those shipped")) for kind, name in found]


def notes(report: Report) -> list[str]:
    """Return what the trials noted, each once, with how many said it."""
    counts: dict[str, int] = {}
    for point in report.points:
        for row in point.rows:
            for note in parsed(row.get("notes")) or ():
                counts[note] = counts.get(note, 0) + 1
    return [note if count == 1 else f"{note} ({count} trials)" for note, count in counts.items()]


def markdown(report: Report) -> str:
    """Return the report's words and tables as Markdown."""
    lines = [f"# {report.title}", ""]
    lines += [f"- {name}: {value}" for name, value in facts(report).items()]
    for answer in report.verdicts[USUAL]:
        lines += ["", f"## Verdict{': ' + answer.scene if answer.scene else ''}", ""]
        lines += [
            f"**{answer.headline}** Tolerated loss: {points_of(answer.tolerance)} of AUC. How sure: {answer.sure}."
        ]
        for heading, said in (
            ("Why", answer.why),
            ("What still leaks", [each.text for each in answer.leaks]),
            ("Also", answer.also),
        ):
            lines += ["", f"{heading}:", "", *(f"- {line}" for line in said)] if said else []
    lines += ["", "## Threat model", "", *(f"- {line}" for line in threat(report))]
    for table in [*heats(report), *all_tables(report)]:
        lines += ["", f"## {table.caption}", "", *_markdown_table(table)]
    lines += ["", "## Configurations", ""]
    for point in report.points:
        told = f"{point.key}: {point.label}{', ' + point.scene if point.scene else ''}"
        for run in recipes(point):
            lines += [f"{told} ({run.told})", "", "```yaml", run.yaml.rstrip(), "```", ""]
    lines += ["## Notes", "", *(f"- {note}" for note in notes(report))]
    return "\n".join(lines) + "\n"


def _markdown_table(table: Table) -> list[str]:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    told = [[f"{cell.text} ({cell.more})" if cell.more else cell.text for cell in row] for row in table.rows]
    return [line(list(table.columns)), line(["---"] * len(table.columns)), *(line(cells) for cells in told)]


def comma_separated(report: Report) -> str:
    """Return one line a point with its plain figures and the ends of their intervals."""
    stream = io.StringIO()
    found = report.found
    attacks = list(dict.fromkeys(attack for each in found for attack in each.leaks))
    parts = ("auc", "loss", "worst", "saved", "score")
    heading = ["point", "label", "setting", "seeds", "front"]
    heading += [f"{part}{end}" for part in parts for end in ("", "_low", "_high")]
    heading += [f"{attack}{end}" for attack in attacks for end in ("", "_low", "_high", "_guessing", "_advantage")]
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(heading)
    for each in found:
        row: list[object] = [each.point.key, each.point.label, each.point.scene, len(each.point.seeds), int(each.front)]
        for part in parts:
            row += _ends(getattr(each, part))
        for attack in attacks:
            leak = each.leaks.get(attack)
            row += [""] * 5 if leak is None else [*_ends(leak.value), leak.floor, leak.advantage.value]
        writer.writerow(row)
    return stream.getvalue()


def _ends(estimate: Estimate | None) -> list[object]:
    if estimate is None:
        return ["", "", ""]
    low, high = estimate.interval or ("", "")
    return [estimate.value, low, high]


def _chosen(report: Report) -> list[Compared]:
    """Return the baselines and what is recommended at the usual tolerance, in the first scenes."""
    picked = [answer.choice for answer in report.verdicts[USUAL][:2] if answer.choice is not None]
    bases = [each for members in list(report.scenes.values())[:2] for each in members if each.baseline]
    return [*bases, *(each for each in picked if each not in bases)]


def _chart(drawn: Drawn) -> dict[str, str]:
    return {
        "title": drawn.title,
        "told": drawn.told,
        "svg": inline(drawn.figure, drawn.name, f"{drawn.title}. {drawn.told}"),
    }


__all__ = ["ALONE", "Report", "comma_separated", "drawings", "html", "markdown", "of_rows"]
