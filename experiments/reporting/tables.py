"""The tables of a report: plain cells that a page, Markdown and CSV are written from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from experiments.reporting.compared import UTILITY, Compared, volumes
from experiments.reporting.estimate import Estimate
from experiments.reporting.leaks import HIDDEN, LEAKS, NAMES, NOTHING, ONE_SEED, PERHAPS, UNSURE, Leak
from experiments.reporting.points import Point, known, parsed
from experiments.reporting.words import ABSENT, duration, interval, number, share, signed, size

TONES = {LEAKS: "bad", ONE_SEED: "bad", PERHAPS: "warn", UNSURE: "warn", HIDDEN: "good"}


@dataclass(frozen=True, slots=True)
class Cell:
    """What a cell shows: `text`, a smaller line `more` under it, the value it `sort`s by, a `tone`, a `heat` 0 to 1."""

    text: str
    sort: float | str = ""
    more: str = ""
    tone: str = ""
    heat: float | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """Columns by heading, each with a word of help; the first column names the row."""

    name: str
    caption: str
    columns: Mapping[str, str]
    rows: Sequence[Sequence[Cell]]
    texts: frozenset[str] = field(default=frozenset())

    def trimmed(self) -> Table:
        """Return the table without the columns that say nothing in any row."""
        kept = [
            place
            for place in range(len(self.columns))
            if place == 0 or any(row[place].text not in ("", ABSENT) for row in self.rows)
        ]
        names = list(self.columns)
        columns = {names[place]: self.columns[names[place]] for place in kept}
        rows = [[row[place] for place in kept] for row in self.rows]
        return Table(self.name, self.caption, columns, rows, self.texts)


def points_table(found: Sequence[Compared], lever: str) -> Table:
    """Return one line a point: what it is worth, what it costs, what it leaks."""
    columns = {
        "point": "its number in figures and below",
        "setting": "what it shares with the points it is compared with",
        {"defense": "defense", "method": "method"}.get(lever, "configuration"): "what differs within the setting",
        "AUC": "mean over seeds on test rows, 95 % interval below",
        "AUC loss, points": "less than the baseline of its setting, the same seeds paired",
        "worst leak": "advantage over guessing of the best attack: 0 % guesses, 100 % knows all",
        "DCS": "VFLAIR's defense score of advantages, 1 is best: nothing leaks, nothing is lost",
        "epsilon": "the least that an accountant computed, where one did",
        "sent": "bytes between parties a run",
        "training": "median time; it depends on the machine and on what else it did",
        "seeds": "how many",
        "front": "on the Pareto front of its setting by its means",
    }
    rows = [_point_row(each) for each in found]
    return Table(
        "points",
        "Means over seeds, 95 % intervals under them; press a heading to sort",
        columns,
        rows,
        frozenset({"setting"}),
    ).trimmed()


def _point_row(each: Compared) -> list[Cell]:
    point = each.point
    epsilon = min((entry["epsilon"] for entry in ledger_of(point)), default=None)
    sent, trained = point.estimate("bytes"), _median(point, "cost.wall_s")
    return [
        Cell(point.key, int(point.key[1:])),
        Cell(point.scene, point.scene),
        Cell(point.label, point.label),
        estimate_cell(each.auc, 4),
        _loss_cell(each.loss),
        _leak_total(each),
        estimate_cell(each.score, 3),
        Cell(ABSENT if epsilon is None else f"{epsilon:.3g}", float("inf") if epsilon is None else epsilon),
        Cell(ABSENT if sent is None else size(sent.value), 0.0 if sent is None else sent.value),
        Cell(ABSENT if trained is None else duration(trained), trained or 0.0),
        Cell(str(len(point.seeds)), len(point.seeds)),
        Cell("yes" if each.front else "", int(each.front)),
    ]


def estimate_cell(estimate: Estimate | None, digits: int) -> Cell:
    """Return a figure with its interval under it."""
    if estimate is None:
        return Cell(ABSENT)
    ends = estimate.interval
    more = "" if ends is None else f"{number(ends[0], digits)} to {number(ends[1], digits)}"
    return Cell(number(estimate.value, digits), estimate.value, more)


def _loss_cell(loss: Estimate | None) -> Cell:
    if loss is None:
        return Cell(ABSENT, 0.0)
    ends = loss.interval
    more = "one seed" if ends is None else f"{signed(100 * ends[0])} to {signed(100 * ends[1])}"
    return Cell(signed(100 * loss.value), loss.value, more)


def _leak_total(each: Compared) -> Cell:
    if each.worst is None:
        return Cell(ABSENT)
    by = max(each.leaks.values(), key=lambda leak: leak.advantage.value).attack
    return Cell(share(each.worst.value), each.worst.value, f"by {by}", heat=each.worst.value)


def _median(point: Point, column: str) -> float | None:
    values = sorted(point.by_seed(column).values())
    return values[len(values) // 2] if values else None


def heat_table(scene: Sequence[Compared], name: str) -> Table | None:
    """Return defenses by attacks, each cell the advantage over guessing; `None` where nothing was attacked."""
    attacks = list(dict.fromkeys(attack for each in scene for attack in each.leaks))
    if not attacks:
        return None
    columns = {"": "", **dict.fromkeys(attacks, "")}
    rows = [
        [Cell(each.point.label, each.point.label), *(_heat_cell(each.leaks.get(attack)) for attack in attacks)]
        for each in scene
    ]
    told = f"Advantage over guessing, by attack{': ' + scene[0].point.scene if scene[0].point.scene else ''}"
    return Table(name, told, columns, rows)


def _heat_cell(leak: Leak | None) -> Cell:
    if leak is None:
        return Cell(ABSENT, -1.0, NOTHING)
    shown = f"{NAMES[leak.figure]} {number(leak.value.value)}"
    if leak.sign_free is not None and abs(leak.sign_free.value - leak.value.value) > 0.02:
        shown = f"any sign {number(leak.sign_free.value)}"
        return Cell(
            share(leak.advantage.value),
            leak.advantage.value,
            f"{shown}, guess {number(leak.sign_free_chance)}; {leak.reading}",
            TONES[leak.reading],
            leak.advantage.value,
        )
    more = f"{shown}, guess {number(leak.floor)}; {leak.reading}"
    return Cell(share(leak.advantage.value), leak.advantage.value, more, TONES[leak.reading], leak.advantage.value)


def leaks_table(found: Sequence[Compared]) -> Table:
    """Return one line a point and attack with every level that its figure is held against."""
    columns = {
        "point": "",
        "configuration": "",
        "attack": "",
        "learns": "",
        "granted": "labelled rows that it was told, never scored",
        "figure": "",
        "value": "mean over seeds, 95 % interval below",
        "guessing": "the better of chance and the prior alone",
        "with any sign": "its twin that a flipped sign does not deceive",
        "guessing, any sign": "",
        "upper bound": "the same attack told every label",
        "advantage": "of the way from guessing to knowing",
        "reading": "after counting every look at this point, or at 95 % alone",
    }
    rows = [
        [
            Cell(each.point.key, int(each.point.key[1:])),
            Cell(f"{each.point.label}{', ' + each.point.scene if each.point.scene else ''}", each.point.label),
            Cell(leak.attack, leak.attack),
            Cell(leak.target, leak.target),
            Cell(str(leak.hints), leak.hints),
            Cell(NAMES[leak.figure], leak.figure),
            estimate_cell(leak.value.clipped(0.0, 1.0 if leak.figure not in ("nmse", "mae") else float("inf")), 3),
            Cell(number(leak.floor), leak.floor),
            estimate_cell(None if leak.sign_free is None else leak.sign_free.clipped(0.0, 1.0), 3),
            Cell(number(leak.sign_free_chance), leak.sign_free_chance or 0.0),
            Cell(number(leak.upper), leak.upper or 0.0),
            Cell(share(leak.advantage.value), leak.advantage.value, heat=leak.advantage.value),
            Cell(leak.reading, leak.reading, tone=TONES[leak.reading]),
        ]
        for each in found
        for leak in each.leaks.values()
    ]
    return Table("leaks", "Every attack on every point", columns, rows).trimmed()


def volume_table(scenes: Mapping[str, Sequence[Compared]]) -> Table | None:
    """Return the hypervolume of each family in each scene; `None` where none can be computed."""
    rows = [
        [
            Cell(family, family),
            Cell(scene, scene),
            Cell(str(sum(each.point.family == family for each in members))),
            estimate_cell(estimate, 3),
        ]
        for scene, members in scenes.items()
        for family, estimate in volumes(members).items()
    ]
    columns = {
        "family": "a defense at all its strengths",
        "setting": "",
        "strengths": "how many were tried: more can only add",
        "hypervolume": "share of the plane between (advertiser alone, leakage undefended) and (no loss, no leakage)",
    }
    return Table("volumes", "How much of the trade-off a family covers", columns, rows).trimmed() if rows else None


def calibration_table(found: Sequence[Compared]) -> Table | None:
    """Return calibration figures by point; `None` where no row has any."""
    figures = {
        "calibration error": ("utility.test.ece", "mean gap between predicted and actual, 15 bins of equal mass"),
        "predicted / actual": ("utility.test.calibration_ratio", "1 is right on average"),
        "log loss": ("utility.test.log_loss", "nats, lower is better"),
        "normalised entropy": ("utility.test.ne", "log loss over that of the base rate: below 1 beats it"),
        "PR AUC": ("utility.test.pr_auc", "its chance level is the base rate"),
    }
    rows = [
        [
            Cell(each.point.key, int(each.point.key[1:])),
            Cell(f"{each.point.label}{', ' + each.point.scene if each.point.scene else ''}", each.point.label),
            *(
                estimate_cell(each.point.estimate(column, column.replace("test.", "test.ci.")), 4)
                for column, _ in figures.values()
            ),
        ]
        for each in found
    ]
    columns = {"point": "", "configuration": "", **{name: told for name, (_, told) in figures.items()}}
    table = Table("calibration", "Calibration on test rows", columns, rows).trimmed()
    return table if len(table.columns) > 2 else None


def cost_table(found: Sequence[Compared]) -> Table:
    """Return what each point sends and takes."""
    kinds = [kind for kind in ("embedding", "gradient", "psi", "score", "control") if _any(found, f"cost.bytes.{kind}")]
    columns = {
        "point": "",
        "configuration": "",
        "sent": "all bytes between parties, a run",
        **{f"{kind} sent": "" for kind in kinds},
        "rounds": "",
        "training": "median over seeds, first round to last",
        "ms a round": "",
        "whole trial": "median, references and attacks with it",
        "peak memory": "of the process",
    }
    return Table(
        "costs", "Communication, time and memory", columns, [_cost_row(each, kinds) for each in found]
    ).trimmed()


def _any(found: Sequence[Compared], column: str) -> bool:
    return any(each.point.by_seed(column) for each in found)


def _cost_row(each: Compared, kinds: Sequence[str]) -> list[Cell]:
    point = each.point
    steps, trained = point.estimate("cost.steps"), _median(point, "cost.wall_s")
    whole, memory = _median(point, "wall_s"), point.estimate("peak_rss_mb")
    per_round = 1000 * trained / steps.value if trained is not None and steps is not None and steps.value else None
    return [
        Cell(point.key, int(point.key[1:])),
        Cell(f"{point.label}{', ' + point.scene if point.scene else ''}", point.label),
        _bytes(point, "bytes"),
        *(_bytes(point, f"cost.bytes.{kind}") for kind in kinds),
        Cell(ABSENT if steps is None else f"{steps.value:,.0f}", 0.0 if steps is None else steps.value),
        Cell(ABSENT if trained is None else duration(trained), trained or 0.0),
        Cell(number(per_round, 1), per_round or 0.0),
        Cell(ABSENT if whole is None else duration(whole), whole or 0.0),
        Cell(ABSENT if memory is None else f"{memory.value:,.0f} MB", 0.0 if memory is None else memory.value),
    ]


def _bytes(point: Point, column: str) -> Cell:
    found = point.estimate(column)
    return Cell(ABSENT) if found is None else Cell(size(found.value), found.value)


def ledger_of(point: Point) -> list[dict[str, Any]]:
    """Return the lines of a point's epsilon ledger."""
    return parsed(point.first("privacy.ledger")) or []


def ledger_table(found: Sequence[Compared]) -> Table | None:
    """Return every epsilon that an accountant computed; `None` where none did."""
    rows = [
        [
            Cell(each.point.key, int(each.point.key[1:])),
            Cell(f"{each.point.label}{', ' + each.point.scene if each.point.scene else ''}", each.point.label),
            *(Cell(str(entry[key]), str(entry[key])) for key in ("party", "unit", "purpose")),
            Cell(f"{entry['epsilon']:.4g}", float(entry["epsilon"])),
            Cell(f"{entry['delta']:.0e}" if entry["delta"] else "0", float(entry["delta"])),
            Cell(str(entry["accountant"]), str(entry["accountant"])),
        ]
        for each in found
        for entry in ledger_of(each.point)
    ]
    columns = {
        "point": "",
        "configuration": "",
        "party": "who guarantees",
        "unit": "what is protected; a guarantee holds for its unit alone",
        "purpose": "",
        "epsilon": "smaller is stronger",
        "delta": "",
        "accountant": "",
    }
    return Table("epsilons", "Privacy guarantees, by an accountant", columns, rows) if rows else None


def wire_table(found: Sequence[Compared]) -> Table | None:
    """Return what crossed between parties, equal lines of several points as one; `None` where rows do not say."""
    grouped: dict[tuple[str, ...], list[tuple[str, int]]] = {}
    for each in found:
        for entry in parsed(each.point.first("privacy.wire")) or ():
            grouped.setdefault(_crossing(entry), []).append((each.point.key, int(entry["bytes"])))
    rows = [
        [*(Cell(text, text) for text in told), _range([count for _, count in of]), Cell(_keys([key for key, _ in of]))]
        for told, of in grouped.items()
    ]
    columns = {
        "what": "the kind of message",
        "sent by": "",
        "seen by": "who can read it",
        "changed before it is sent by": "defenses that act on the message",
        "made private at its source by": "defenses of the labels, the loss or the network behind it",
        "encrypted": "between the parties, so that a relay reads nothing",
        "written as": "",
        "bytes a run": "",
        "points": "",
    }
    return Table("wire", "What crossed the wire", columns, rows) if rows else None


def _crossing(entry: Mapping[str, Any]) -> tuple[str, ...]:
    what = {
        "embedding": "embeddings of rows",
        "gradient": "gradients of embeddings",
        "psi": "alignment of row ids",
        "score": "predicted scores",
        "control": "step headers",
    }
    return (
        what.get(entry["kind"], entry["kind"]),
        entry["party"],
        ", ".join(entry["to"]),
        " + ".join(entry["changed_by"]) or "nothing",
        " + ".join(entry["behind"]) or "nothing",
        "yes" if entry["sealed"] else "no (one process)",
        entry["codec"],
    )


def _range(counts: Sequence[int]) -> Cell:
    low, high = min(counts), max(counts)
    return Cell(size(low) if low == high else f"{size(low)} to {size(high)}", float(high))


def _keys(keys: Sequence[str]) -> str:
    """Return `P1 to P5, P7` for the keys of points."""
    numbers = sorted({int(key[1:]) for key in keys})
    runs: list[list[int]] = []
    for each in numbers:
        if runs and each == runs[-1][1] + 1:
            runs[-1][1] = each
        else:
            runs.append([each, each])
    return ", ".join(f"P{low}" if low == high else f"P{low} to P{high}" for low, high in runs)


def failed_table(rows: Sequence[Mapping[str, Any]]) -> Table | None:
    """Return the trials that failed, with their errors; `None` where none did."""
    if not rows:
        return None
    columns = {"trial": "", "seed": "", "defense": "", "method": "", "error": ""}
    told = [
        [
            Cell(str(row["trial"])),
            Cell(str(row["seed"]), int(row["seed"])),
            *(Cell(str(row.get(key) or ABSENT)) for key in ("config.defense", "config.method.name", "error")),
        ]
        for row in rows
    ]
    return Table("failed", "Trials that failed", columns, told)


def has_value(found: Sequence[Compared], column: str = UTILITY) -> bool:
    """Return whether any point has a figure."""
    return any(known(row.get(column)) for each in found for row in each.point.rows)


__all__ = ["Cell", "Table", "interval"]
