"""Write attack x defense tables from the rows of a sweep.

`vfl sweep configs/sweep/attack_matrix.yaml --out DIR --resume` makes the trials, and `configs/sweep/attack_checks.yaml`
those held against published figures. `python -m experiments.attack_matrix --rows DIR..` keeps one line a trial in
`docs/results/rows/attacks.jsonl`; it and `python -m experiments.attack_matrix` alone write `docs/results/attacks.md`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from experiments.attack_notes import CHECKS, CLOSING, OPENING, Check
from experiments.axes import read_sweep
from experiments.real_sets import interval
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
    lines = {line["trial"]: line for line in stored()}
    lines.update({line["trial"]: line for folder in asked.rows for line in taken(folder)})
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
    """Return a line for each trial of a sweep that ended well."""
    rows = (pq.read_table(path).to_pylist()[0] for path in sorted((folder / "rows").glob("*.parquet")))
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
    return [*found, "", *_checks(lines), "", CLOSING]


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
    for defense in defenses:
        own = [line for line in lines if line["defense"] == defense]
        if not own:
            text.append(_row([defense, 0, *["not run"] * (len(attacks) + 2)]))
            continue
        cells = [_value(own, attack, kind) for attack, kind in zip(attacks, kinds, strict=True)]
        score = _type_score(own, plain, kinds[0])
        text.append(_row([defense, len(own), interval([line["utility"] for line in own]), score, *cells]))
    return text


def _type_score(own: Sequence[Line], plain: Sequence[Line], kind: str) -> str:
    """Return VFLAIR's T-DCS of a table's attacks, the mean of their DCS over seeds that have an undefended trial."""
    honest = {line["seed"]: line["utility"] for line in plain}
    found = [
        defense_score(_leak(figures[kind], kind), honest[line["seed"]] - line["utility"])
        for line in own
        for figures in line["attacks"].values()
        if line["seed"] in honest and kind in figures
    ]
    return f"{scores_by_type({kind: found})[0][kind]:.3f}" if found else ""


def _leak(value: float, kind: str) -> float:
    """Return an attack's performance from 0 to 1, as VFLAIR's score takes it."""
    return {"sign_free": 2 * value - 1, "auc": abs(2 * value - 1), "nmse": max(1 - value, 0.0)}.get(kind, value)


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
    return f"{interval(known)} ({len(known)} seeds)" if known else "not run"


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
    return f"{interval(known)} (cost {cost})" if cost else interval(known)


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
