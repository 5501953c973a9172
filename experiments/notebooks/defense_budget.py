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
from experiments.reporting.compared import UTILITY
from experiments.reporting.estimate import paired
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
more = paired(weakest.worst_by_seed, strongest.worst_by_seed)
price = paired(weakest.point.by_seed(UTILITY), strongest.point.by_seed(UTILITY), weakest.point.shared)
print(
    f"{weakest.point.label} takes {100 * weakest.saved.value:.0f} % of the way to knowing off the best attack "
    f"({100 * weakest.saved.low:.0f} to {100 * weakest.saved.high:.0f}) for {100 * weakest.loss.value:.2f} points."
)
print(
    f"Going on to {strongest.point.label} takes {100 * more.value:.0f} % more ({100 * more.low:.0f} to "
    f"{100 * more.high:.0f}) for {100 * price.value:.2f} points more ({100 * price.low:.2f} to {100 * price.high:.2f})."
)
if more.low > 0:
    advice = f"{strongest.point.label} hides more on these seeds; take it if {100 * max(price.high, 0):.2f} points, the end of the interval, can be borne."
elif weakest.saved.low > 0:
    advice = f"{weakest.point.label} surely hides something and no seed shows that more strength hides more; stay with it, or run more seeds."
else:
    advice = f"{len(SEEDS)} seeds do not show that the first step hides anything, nor the last more; run more seeds before you pay."
print("Act on it: " + advice)
