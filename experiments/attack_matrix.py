"""Write attack x defense tables from the rows of a sweep.

`vfl sweep configs/sweep/attack_matrix.yaml --out DIR --resume` makes the trials, `configs/sweep/attack_active.yaml`
those of attacks that it leaves out, `configs/sweep/attack_checks.yaml` those held against published figures.
`python -m experiments.attack_matrix --rows DIR..` keeps one line a trial in `docs/results/rows/attacks.jsonl`; it and
`python -m experiments.attack_matrix` alone write `docs/results/attacks.md`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from experiments.attack_notes import (
    BACKDOOR_NOTES,
    BACKDOORS,
    CHECKS,
    CLOSING,
    COMBINED,
    COST,
    INVERSIONS,
    OPENING,
    Check,
)
from experiments.axes import read_sweep
from experiments.intervals import interval
from experiments.schema import Config
from vfl.metrics.tradeoff import defense_score, scores_by_type

ROWS = Path("docs/results/rows/attacks.jsonl")
TABLE = Path("docs/results/attacks.md")
SWEEP = Path("configs/sweep/attack_matrix.yaml")
HEADLINES = {
    "labels": ("sign_free", "accuracy"),
    "proportion": ("mae",),
    "features": ("nmse",),
    "attribute": ("auc", "accuracy"),
    "membership": ("auc",),
    "outcome": ("damage",),
    "backdoor": ("asr",),
}
"""The figure shown of an attack, by what it guesses: the first that it has."""
TYPES = ("labels", "features", "integrity")
KEPT = (
    "damage",
    "asr",
    "clean_error",
    "clean_cost",
    "leak_auc",
    "sign_free",
    "abs_q95",
    "accuracy",
    "auc",
    "nmse",
    "mae",
    "prior_only",
    "upper",
    "error",
)
PLACES = 4
GROUP = 5
"""How many parts of a cell's name say which table it is in: data, who looks, top, bottom, attacks."""

Line = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> int:
    """Take over the rows of sweeps that the command line names, write the tables and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m experiments.attack_matrix", description=__doc__)
    parser.add_argument("--rows", nargs="*", type=Path, default=[], help="folders that sweeps wrote")
    asked = parser.parse_args(arguments)
    lines = {_cell(line): line for line in stored()}
    lines.update({_cell(line): line for folder in asked.rows for line in taken(folder)})
    ordered = sorted(lines.values(), key=lambda line: (line["data"], *map(str, _key(line)), line["seed"]))
    ROWS.parent.mkdir(parents=True, exist_ok=True)
    ROWS.write_text("".join(f"{json.dumps(line)}\n" for line in ordered), encoding="utf-8")
    wanted = [each.config for each in read_sweep(SWEEP)]
    TABLE.write_text("\n".join(document(ordered, wanted)) + "\n", encoding="utf-8")
    return 0


def stored() -> list[Line]:
    """Return the lines that are kept."""
    return [json.loads(line) for line in ROWS.read_text(encoding="utf-8").splitlines()] if ROWS.is_file() else []


def taken(folder: Path) -> list[Line]:
    """Return a line for each trial of a sweep that ended well, the latest last: of one cell run twice that is kept."""
    paths = sorted((folder / "rows").glob("*.parquet"), key=lambda path: path.stat().st_mtime)
    rows = (pq.read_table(path).to_pylist()[0] for path in paths)
    return [line_of(row) for row in rows if row["status"] == "ok"]


def line_of(row: Mapping[str, Any]) -> Line:
    """Return what is kept of one row of the results store."""
    metric = "auc" if row["data.classes"] == 2 else "accuracy"
    keys = dict.fromkeys(key.split(".")[1] for key in row if key.startswith("leakage."))
    return {
        "trial": row["trial"],
        "data": row["config.data.name"],
        "seed": row["seed"],
        "looks": json.loads(row["config.threat.adversaries"])[0],
        "bottom": row["config.model.bottom.name"],
        "top": row["config.model.top.name"],
        "defense": named(json.loads(row["config.defense"])),
        "metric": metric,
        "utility": round(row[f"utility.test.{metric}"], PLACES),
        "honest": _rounded(row.get(f"utility.honest.{metric}")),
        "wall_s": round(row["wall_s"], 1),
        "attacks": {key: _figures(row, f"leakage.{key}.") for key in keys},
    }


def named(stack: Sequence[Mapping[str, Any]]) -> str:
    """Return a stack of defenses in one word or a few: `marvell(s=4)`."""
    texts: list[str] = []
    for spec in stack:
        options = {key: value for key, value in sorted(spec.items()) if key not in ("name", "party")}
        told = ", ".join(
            f"{key}={value:g}" if isinstance(value, float | int) else value for key, value in options.items()
        )
        texts.append(f"{spec['name']}({told})" if told else spec["name"])
    return " + ".join(texts) or "none"


def document(lines: Sequence[Line], wanted: Sequence[Config]) -> list[str]:
    """Return the document's lines: what was asked, a table a data set and kind of adversary, and outside checks."""
    cells = [_asked(config) for config in wanted]
    done = {_cell(line) for line in lines}
    found = [OPENING.format(trials=len(cells), done=len(done & set(cells)))]
    for group in dict.fromkeys(cell[:GROUP] for cell in cells):
        own = [line for line in lines if _cell(line)[:GROUP] == group]
        defenses = list(dict.fromkeys(cell[GROUP] for cell in cells if cell[:GROUP] == group))
        data, looks, top, bottom, attacks = group
        title = f"{data}: {bottom} bottoms, top {top}, the {looks} tries {attacks.count(' ') + 1}"
        found += ["", f"## {title}", "", *table(own, defenses, attacks)]
    found += [
        "",
        COMBINED,
        "",
        *combined(lines),
        "",
        *_checks(lines),
        "",
        CLOSING,
        "",
        BACKDOORS,
        "",
        *backdoors(lines),
    ]
    return [*found, "", BACKDOOR_NOTES, "", INVERSIONS, "", *inversions(lines), "", COST]


def backdoors(lines: Sequence[Line]) -> list[str]:
    """Return a table of the undefended trials of targeted attacks: how often they succeed, and what others pay."""
    text = [_row(["data", "attack", "seeds", "asr", "clean rate", "cost"]), "|" + "---|" * 6]
    for data, attack in _undefended(lines, "asr"):
        own = _of(lines, data, attack)
        cost = [value for line in own if (value := line["attacks"][attack].get("clean_cost")) is not None]
        shown = [_value_of(own, attack, key) for key in ("asr", "prior_only")]
        text.append(_row([data, attack, len(own), *shown, spread(cost) if cost else ""]))
    return text


def inversions(lines: Sequence[Line]) -> list[str]:
    """Return a table of the undefended trials of attacks on columns, and what the joint model is worth."""
    text = [_row(["data", "attack", "seeds", "nmse", "test metric", "without the attack"]), "|" + "---|" * 6]
    for data, attack in _undefended(lines, "nmse"):
        own = [line for line in _of(lines, data, attack) if line["top"] == "linear"]
        honest = [line["honest"] for line in own if line.get("honest") is not None]
        if own:
            worth = spread([line["utility"] for line in own]), spread(honest) if honest else ""
            text.append(_row([data, attack, len(own), _value_of(own, attack, "nmse"), *worth]))
    return text


def _undefended(lines: Sequence[Line], headline: str) -> list[tuple[str, str]]:
    """Return the data sets and attacks of trials without a defense whose attack has such a headline."""
    plain = (line for line in lines if line["defense"] == "none")
    found = (
        (line["data"], key) for line in plain for key, each in line["attacks"].items() if each["headline"] == headline
    )
    return list(dict.fromkeys(found))


def _of(lines: Sequence[Line], data: str, attack: str) -> list[Line]:
    return [line for line in lines if (line["data"], line["defense"]) == (data, "none") and attack in line["attacks"]]


def _value_of(lines: Sequence[Line], attack: str, key: str) -> str:
    known = [value for line in lines if (value := line["attacks"][attack].get(key)) is not None]
    return spread(known) if known else "no figure"


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, PLACES)


def table(lines: Sequence[Line], defenses: Sequence[str], tried: str) -> list[str]:
    """Return one table: a row a defense, a column an attack; `not run` where no trial has ended."""
    if not lines:
        return [f"Not run: {tried}."]
    attacks = list(dict.fromkeys(key for line in lines for key in line["attacks"]))
    metric = lines[0]["metric"]
    heads = ["defense", "seeds", f"test {metric}", "T-DCS", *attacks]
    kinds = [_shown([line["attacks"][key] for line in lines if key in line["attacks"]]) for key in attacks]
    text = [_row(heads), "|" + "---|" * len(heads), _row(["(figure)", "", "", "", *kinds])]
    for name, key in (("(chance)", "chance"), ("(prior only)", "prior_only")):
        text.append(_row([name, "", "", "", *(_mean(lines, attack, key) for attack in attacks)]))
    plain = [line for line in lines if line["defense"] == "none"]
    text.append(_row(["(upper, undefended)", "", "", "", *(_mean(plain, attack, "upper") for attack in attacks)]))
    if any(key.startswith("controls.") for line in plain for found in line["attacks"].values() for key in found):
        text.append(_row(["(control, undefended)", "", "", "", *(_control(plain, attack) for attack in attacks)]))
    for defense in defenses:
        own = [line for line in lines if line["defense"] == defense]
        if not own:
            text.append(_row([defense, 0, *["not run"] * (len(attacks) + 2)]))
            continue
        cells = [_value(own, attack, kind) for attack, kind in zip(attacks, kinds, strict=True)]
        score = _type_score(own, plain)
        text.append(_row([defense, len(own), spread([line["utility"] for line in own]), score, *cells]))
    return text


def _scores(own: Sequence[Line], plain: Sequence[Line]) -> list[tuple[str, float]]:
    """Return the type and VFLAIR's DCS of each attack and seed that has an undefended trial beside it."""
    honest = {line["seed"]: line["utility"] for line in plain}
    return [
        (_type(figures["headline"]), defense_score(_leak(figures), honest[line["seed"]] - line["utility"]))
        for line in own
        for figures in line["attacks"].values()
        if line["seed"] in honest and figures["headline"] in figures
    ]


def _type_score(own: Sequence[Line], plain: Sequence[Line]) -> str:
    """Return VFLAIR's T-DCS of a table's attacks, the mean of their DCS over attacks and seeds."""
    found = [score for _, score in _scores(own, plain)]
    return f"{sum(found) / len(found):.3f}" if found else ""


def combined(lines: Sequence[Line]) -> list[str]:
    """Return a table of VFLAIR's C-DCS: over types of attack, the mean of each one's T-DCS, by data set and defense."""
    tables = dict.fromkeys(_cell(line)[:GROUP] for line in lines)
    found: dict[tuple[str, str], dict[str, list[float]]] = {}
    for group in tables:
        own = [line for line in lines if _cell(line)[:GROUP] == group]
        plain = [line for line in own if line["defense"] == "none"]
        for line in own:
            for kind, score in _scores([line], plain):
                found.setdefault((line["data"], line["defense"]), {}).setdefault(kind, []).append(score)
    text = [_row(["data", "defense", *TYPES, "C-DCS"]), "|" + "---|" * (len(TYPES) + 3)]
    for (data, defense), scores in found.items():
        by_type, together = scores_by_type(scores)
        shown = [f"{by_type[kind]:.3f}" if kind in by_type else "" for kind in TYPES]
        text.append(_row([data, defense, *shown, f"{together:.3f}"]))
    return text


def _type(headline: str) -> str:
    return {"nmse": "features", "auc": "features", "damage": "integrity", "asr": "integrity"}.get(headline, "labels")


def _leak(figures: Line) -> float:
    """Return an attack's performance from 0 to 1, as VFLAIR's score takes it."""
    kind, value = figures["headline"], figures[figures["headline"]]
    found = {"sign_free": 2 * value - 1, "auc": abs(2 * value - 1), "nmse": max(1 - value, 0.0)}.get(kind, value)
    return min(max(found, 0.0), 1.0)


def spread(values: Sequence[float]) -> str:
    """Return a mean over seeds with its 95 % t-interval; of two seeds the two, whose interval says nothing."""
    if len(values) == 2:
        return f"{sum(values) / 2:.3f} [{min(values):.3f}, {max(values):.3f}]"
    return interval(values)


def _control(lines: Sequence[Line], attack: str) -> str:
    """Return the best that an attack's controls reach, by its signed figure: what its own columns tell without us."""
    found = [line["attacks"].get(attack, {}) for line in lines]
    names = dict.fromkeys(key for each in found for key in each if key.startswith("controls."))
    best = min if any(each.get("headline") == "nmse" for each in found) else max
    return best((_mean(lines, attack, name) for name in names), default="")


def _checks(lines: Sequence[Line]) -> list[str]:
    text = [
        "## Beside published figures",
        "",
        _row(["what", "published", "here", "why they differ"]),
        "|---|---|---|---|",
    ]
    return [*text, *(_row([check.what, check.published, _here(check, lines), check.why]) for check in CHECKS)]


def _here(check: Check, lines: Sequence[Line]) -> str:
    own = [line for line in lines if (line["data"], line["defense"]) == (check.data, check.defense)]
    if check.attack == "":
        values = [line["utility"] for line in own if line["looks"] == "publisher" and line["top"] == "linear"]
    else:
        values = [line["attacks"].get(check.attack, {}).get(check.figure) for line in own]
    known = [value for value in values if value is not None]
    return f"{spread(known)} ({len(known)} seeds)" if known else "not run"


def _figures(row: Mapping[str, Any], prefix: str) -> Line:
    headline = _headline(row, prefix)
    figures = {key: row.get(prefix + key) for key in KEPT}
    figures |= {key.removeprefix(prefix): value for key, value in row.items() if key.startswith(f"{prefix}controls.")}
    figures["chance"] = row.get(f"{prefix}chance.{headline}")
    kept = {key: round(value, PLACES) if isinstance(value, float) else value for key, value in figures.items()}
    return {"headline": headline, **{key: value for key, value in kept.items() if value is not None}}


def _headline(row: Mapping[str, Any], prefix: str) -> str:
    names = HEADLINES.get(row.get(f"{prefix}target") or "", ())
    return next((name for name in names if row.get(prefix + name) is not None), "")


def _shown(figures: Iterable[Line]) -> str:
    return next((each["headline"] for each in figures if each["headline"]), "")


def _mean(lines: Iterable[Line], attack: str, key: str) -> str:
    values = [line["attacks"].get(attack, {}).get(key) for line in lines]
    known = [value for value in values if value is not None]
    return f"{sum(known) / len(known):.3f}" if known else ""


def _value(lines: Sequence[Line], attack: str, kind: str) -> str:
    values = [line["attacks"].get(attack, {}).get(kind) for line in lines]
    known = [value for value in values if value is not None]
    if not known:
        return "no figure"
    cost = _mean(lines, attack, "clean_cost")
    return f"{spread(known)} (cost {cost})" if cost else spread(known)


def _row(cells: Sequence[Any]) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def _asked(config: Config) -> tuple[Any, ...]:
    stack = [spec.member for spec in config.defense]
    looks, model = config.threat.adversaries[0], config.model
    tried = ", ".join(attack.key for attack in config.attack)
    return (config.data.name, looks, model.top.name, model.bottom.name, tried, named(stack), config.seed)


def _cell(line: Line) -> tuple[Any, ...]:
    return (*_key(line), line["seed"])


def _key(line: Line) -> tuple[Any, ...]:
    return (line["data"], line["looks"], line["top"], line["bottom"], ", ".join(line["attacks"]), line["defense"])


if __name__ == "__main__":
    sys.exit(main())
