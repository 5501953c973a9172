"""`python -m experiments.bench BENCHMARK [--json]`; `compare OLD NEW` sets two reports side by side."""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from experiments.bench import (
    attacks,
    compare,
    defenses,
    evaluation,
    latency,
    memory,
    overhead,
    page,
    psi,
    scale,
    throughput,
)
from experiments.bench.figures import Figure, machine, report


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a benchmark and print its figures, as a table or as JSON."""
    options = _parser().parse_args(arguments)
    if options.benchmark == "compare":
        raise SystemExit(_compare(options))
    torch.set_num_threads(1)
    figures: list[Figure] = options.run(options)
    if options.json:
        sys.stdout.write(json.dumps(report(figures), indent=2) + "\n")
    elif options.benchmark == "defenses":
        sys.stdout.write("\n".join(defenses.table(figures)) + "\n")
    else:
        _show(figures)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m experiments.bench", description=__doc__)
    which = parser.add_subparsers(dest="benchmark", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="print one JSON object on standard output")

    def add(name: str, about: str, repeats: int | None, run: Callable[[Any], list[Figure]]) -> argparse.ArgumentParser:
        made = which.add_parser(name, parents=[common], help=about)
        if repeats is not None:
            made.add_argument("--repeats", type=int, default=repeats)
        made.set_defaults(run=run)
        return made

    steps = add("throughput", "training rounds against a plain loop", 7, _throughput)
    steps.add_argument("--backend", choices=list(throughput.BACKENDS), action="append", help="default: all")
    steps.add_argument("--workload", choices=list(throughput.WORKLOADS), action="append", help="default: all")
    steps.add_argument("--batch", type=int, choices=throughput.BATCHES, action="append", help="default: all")
    steps.add_argument("--named", action="store_true", help="local, ray, ray_stale on W0 and W, and ray+default")
    steps.add_argument("--page", type=Path, help="also put the figures into the table of this page")
    wait = add(
        "latency", "start, short rounds, evaluation, recorder", 5, lambda o: latency.measure(o.repeats, o.seconds)
    )
    matching = add("psi", "set intersection against openmined-psi", 1, _psi)
    matching.add_argument("--ids", type=int, default=psi.IDS, help="of each side")
    add("defenses", "what each costs a batch of 1024 x 64", 15, lambda o: list(defenses.measure(o.repeats)))
    costing = add(
        "overhead", "the sealed channel and checkpoints", 15, lambda o: overhead.measure(o.repeats, o.seconds)
    )
    add("attacks", "attacks on the wire alone, 204,800 rows", 3, lambda o: attacks.measure(o.repeats))
    add("evaluation", "all attacks on Adult, recorded and acting", None, lambda o: list(evaluation.measure()))
    sweeping = add("sweep", "two workers of a sweep against one", None, _sweep)
    sweeping.add_argument("--trials", type=int, default=8)
    reading = add("report", "stored rows loaded and reported", None, _report)
    reading.add_argument("--rows", type=int, default=1000)
    growth = add("scale", "cost by rows, parties, width, batch", 3, lambda o: scale.measure(o.axis, o.repeats, o.plot))
    growth.add_argument("--axis", choices=list(scale.AXES), nargs="+", default=list(scale.AXES))
    growth.add_argument("--plot", type=Path, help="also draw the curves to this PNG")
    add("memory", "peak memory by rows", None, lambda o: memory.measure())
    for timed in (steps, wait, costing):
        timed.add_argument("--seconds", type=float, default=0.6, help="length of one turn")
    beside = which.add_parser("compare", parents=[common], help="two reports: what moved by more than it scatters")
    beside.add_argument("old", type=Path)
    beside.add_argument("new", type=Path)
    return parser


def _compare(options: argparse.Namespace) -> int:
    """Print how each figure moved, and return 1 where one got slower beyond its scatter."""
    changes = compare.compare(options.old, options.new)
    if options.json:
        sys.stdout.write(json.dumps({"changes": [asdict(change) for change in changes]}, indent=2) + "\n")
    for change in [] if options.json else changes:
        old, new = ("-" if ratio is None else f"{ratio:.2f}" for ratio in (change.old, change.new))
        sys.stdout.write(f"{change.verdict:>6}  {change.name}  {old} -> {new}\n")
    return int(any(change.verdict == "slower" for change in changes))


def _throughput(options: argparse.Namespace) -> list[Figure]:
    figures: list[Figure] = []
    asked = itertools.product(
        options.backend or throughput.BACKENDS,
        options.workload or throughput.WORKLOADS,
        options.batch or throughput.BATCHES,
    )
    for backend, workload, batch in throughput.NAMED if options.named else asked:
        figure = throughput.measure(workload, batch, backend, options.repeats, options.seconds)
        figures.append(figure)
        sys.stderr.write(f"{figure.name}: {figure.value:,.0f} {figure.unit}, ratio {figure.ratio:.2f}\n")
        if options.page is not None:  # at once: a call that is cut short keeps what it has measured
            page.update(options.page, [figure], machine())
    return figures


def _psi(options: argparse.Namespace) -> list[Figure]:
    return psi.measure(options.ids, options.repeats)


def _sweep(options: argparse.Namespace) -> list[Figure]:
    from experiments.bench import sweep

    return sweep.measure(options.trials)


def _report(options: argparse.Namespace) -> list[Figure]:
    from experiments.bench import reporting

    return reporting.measure(options.rows)


def _show(figures: Sequence[Figure]) -> None:
    table = Table("figure", "value", "reference", "ratio [least, greatest]")
    for figure in figures:
        spread = "" if figure.spread is None else f" [{figure.spread[0]:.2f}, {figure.spread[1]:.2f}]"
        reference = "" if figure.reference is None else f"{figure.reference:,.4g}"
        ratio = "" if figure.ratio is None else f"{figure.ratio:.2f}{spread}"
        table.add_row(figure.name, f"{figure.value:,.4g} {figure.unit}", reference, ratio)
    Console().print(table)


if __name__ == "__main__":
    main()
