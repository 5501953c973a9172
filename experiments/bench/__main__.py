"""`python -m experiments.bench throughput|psi|defenses|overhead|sweep [--json]`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from experiments.bench import defenses, overhead, psi, throughput
from experiments.bench.figures import Figure, report


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a benchmark and print its figures, as a table or as JSON."""
    parser = argparse.ArgumentParser(prog="python -m experiments.bench", description=__doc__)
    which = parser.add_subparsers(dest="benchmark", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="print one JSON object on standard output")
    steps = which.add_parser("throughput", parents=[common], help="training rounds against a plain loop")
    steps.add_argument("--backend", choices=["local", "ray"], action="append", help="default: both")
    steps.add_argument("--workload", choices=sorted(throughput.WORKLOADS), action="append", help="default: all")
    steps.add_argument("--batch", type=int, choices=throughput.BATCHES, action="append", help="default: all")
    steps.add_argument("--repeats", type=int, default=7)
    steps.add_argument("--seconds", type=float, default=0.6, help="length of one turn")
    steps.set_defaults(run=_throughput)
    matching = which.add_parser("psi", parents=[common], help="private set intersection against openmined-psi")
    matching.add_argument("--ids", type=int, default=psi.IDS, help="of each side")
    matching.add_argument("--repeats", type=int, default=1)
    matching.add_argument("--group", choices=psi.GROUPS, action="append", help="default: all")
    matching.set_defaults(
        run=lambda options: psi.measure(options.ids, options.repeats, tuple(options.group or psi.GROUPS))
    )
    guarding = which.add_parser("defenses", parents=[common], help="what each defense costs a batch of 1024 x 64")
    guarding.add_argument("--repeats", type=int, default=15)
    guarding.set_defaults(run=lambda options: list(defenses.measure(options.repeats)))
    costing = which.add_parser("overhead", parents=[common], help="what the sealed channel and checkpoints cost")
    costing.add_argument("--repeats", type=int, default=7)
    costing.add_argument("--seconds", type=float, default=0.6, help="length of one turn")
    costing.set_defaults(run=lambda options: overhead.measure(options.repeats, options.seconds))
    sweeping = which.add_parser("sweep", parents=[common], help="two workers of a sweep against one")
    sweeping.add_argument("--trials", type=int, default=8)
    sweeping.set_defaults(run=_sweep)
    options = parser.parse_args(arguments)
    figures: list[Figure] = options.run(options)
    if options.json:
        sys.stdout.write(json.dumps(report(figures), indent=2) + "\n")
    elif options.benchmark == "defenses":
        sys.stdout.write("\n".join(defenses.table(figures)) + "\n")
    else:
        _show(figures)


def _throughput(options: argparse.Namespace) -> list[Figure]:
    figures: list[Figure] = []
    for backend in options.backend or ["local", "ray"]:
        for workload in options.workload or sorted(throughput.WORKLOADS, reverse=True):
            for batch in options.batch or throughput.BATCHES:
                figure = throughput.measure(workload, batch, backend, options.repeats, options.seconds)
                figures.append(figure)
                sys.stderr.write(f"{figure.name}: {figure.value:,.0f} {figure.unit}, ratio {figure.ratio:.2f}\n")
    return figures


def _sweep(options: argparse.Namespace) -> list[Figure]:
    from experiments.bench import sweep  # it starts Ray, which no other benchmark needs

    return sweep.measure(options.trials)


def _show(figures: Sequence[Figure]) -> None:
    table = Table("figure", "value", "reference", "ratio [least, greatest]")
    for figure in figures:
        spread = "" if figure.spread is None else f" [{figure.spread[0]:.2f}, {figure.spread[1]:.2f}]"
        reference = "" if figure.reference is None else f"{figure.reference:,.0f}"
        ratio = "" if figure.ratio is None else f"{figure.ratio:.2f}{spread}"
        table.add_row(figure.name, f"{figure.value:,.0f} {figure.unit}", reference, ratio)
    Console().print(table)


if __name__ == "__main__":
    main()
