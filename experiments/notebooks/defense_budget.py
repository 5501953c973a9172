# %% [markdown]
# # How much defense can we afford?
#
# A defense has a strength, and every step of it costs AUC. The question is never "is it private" but "what does the
# next point of leakage cost". We run a small sweep in this process and read it as `vfl report` does.

# %%
# %matplotlib inline
import tempfile
from pathlib import Path

from experiments import plots, results
from experiments.config import parse
from experiments.plots import Mark, Panel
from experiments.progress import Silent
from experiments.reporting.page import of_rows
from experiments.reporting.verdict import TOLERANCES
from experiments.run import simulate

runs = Path(tempfile.mkdtemp())

# %%
SMALL = {
    "backend": "local",
    "holdout": {"test": 0.5},
    "train": {"epochs": 2, "batch_size": 256},
    "attack": [{"name": "norm"}, {"name": "direction", "hints": 1}],
    "references": ["advertiser_alone"],
    "record": {"keep": "marks"},
}
SEEDS = (0, 1, 2)
STRENGTHS = (0.5, 4, 32)
STACKS = [[], *([{"name": "marvell", "s": s}] for s in STRENGTHS)]
for seed in SEEDS:
    for stack in STACKS:
        config = parse({**SMALL, "seed": seed, "defense": stack})
        simulate(config, runs / f"{seed}-{len(list(runs.iterdir()))}", ray_address=None, resume=None, progress=Silent())
table = results.load(runs)
table.groupby("config.defense")[["utility.test.auc", "leakage.norm.leak_auc", "leakage.direction.leak_auc"]].agg(
    ["mean", "std"]
)

# %% [markdown]
# Cost against leakage, both compared seed by seed with the run without a defense. Left is cheaper, lower leaks less.

# %%
report = of_rows(results.rows(runs), "budget")
marks = [
    Mark(
        100 * (each.loss.value if each.loss else 0.0),
        each.worst.value,
        each.point.label,
        each.point.family,
        each.point.label,
        None if each.loss is None else (100 * each.loss.low, 100 * each.loss.high),
        each.worst.interval,
        each.front,
    )
    for each in report.found
]
plots.pareto(marks, Panel("AUC given up (points)", "worst leak: advantage over guessing", y_range=(-0.03, 1.06)))

# %% [markdown]
# What the report would recommend at each tolerated loss:

# %%
for tolerance in TOLERANCES:
    (answer,) = report.verdicts[tolerance]
    print(f"{100 * tolerance:5.2f} points: [{answer.sure}] {answer.headline}")

# %% [markdown]
# ## Finding

# %%
defended = [each for each in report.found if each.loss is not None]
weakest, strongest = defended[0], defended[-1]
first = weakest.saved.value / max(weakest.loss.value, 1e-4)
more = (strongest.saved.value - weakest.saved.value) / max(strongest.loss.value - weakest.loss.value, 1e-4)
print(
    f"{weakest.point.label} takes {100 * weakest.saved.value:.0f} % of the way to knowing off the best attack for {100 * weakest.loss.value:.2f} points;"
)
print(
    f"going on to {strongest.point.label} takes {100 * (strongest.saved.value - weakest.saved.value):.0f} % more for {100 * (strongest.loss.value - weakest.loss.value):.2f} points."
)
print(
    "Act on it: "
    + (
        "the first step buys most; start weak and stop where the intervals of two strengths overlap."
        if first > more
        else "the strong end still pays; look further up before settling."
    )
)
