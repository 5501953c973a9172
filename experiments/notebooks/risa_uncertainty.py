# %% [markdown]
# # Can RISA's uncertainty be trusted to choose rows?
#
# RISA gives pseudo-labels to rows that one party holds alone and trains on those it is least uncertain of. That helps
# only if uncertainty ranks: the rows it is sure of must be the ones it gets right. We look at what a run notes of its
# choices, and then at the uncertainty of single rows under an evidential head of our own.

# %%
# %matplotlib inline
import tempfile
from pathlib import Path

import numpy as np
import torch

from experiments import plots
from experiments.config import parse
from experiments.inspect import open_run
from experiments.plots import Line, Panel
from experiments.progress import Silent
from experiments.run import simulate
from vfl.evidence import evidence, evidential_loss, opinion
from vfl.metrics.intervals import bootstrap_auc, percentile_interval, rank, weighted_auc
from vfl.seeds import Seeds

runs = Path(tempfile.mkdtemp())

# %% [markdown]
# Halves of handwritten digits, one row in ten aligned. Precision is the share of pseudo-labels that are right; only the
# simulation's referee can know it.

# %%
RISA = {"name": "risa", "warm_steps": 120, "round_steps": 40, "rounds": 3, "leftover_labels": "unknown"}
BASE = {
    "backend": "local",
    "data": "digits",
    "align": {"overlap": 0.1},
    "train": {"epochs": 10, "batch_size": 64},
    "attack": [],
    "references": [],
}
chosen = {}
for by in ("uncertainty", "confidence"):
    out = runs / by
    row = simulate(
        parse({**BASE, "method": {**RISA, "select_by": by}}), out, ray_address=None, resume=None, progress=Silent()
    )
    chosen[by] = row["method"]
    noted = chosen[by]
    print(
        f"by {by:12s} precision of the {noted['selected']:.0f} chosen {noted['precision_selected']:.3f}, of the {noted['rejected']:.0f} others {noted['precision_rejected']:.3f}"
    )

# %% [markdown]
# Row by row: an evidential head on the publisher's own embeddings of the first run, fitted on half of the aligned rows
# and asked about the other half. Uncertainty is what its beliefs leave open, from 0 to 1.

# %%
run = open_run(runs / "uncertainty")
seen = run.view("publisher").embeddings().last()
known = seen.below(len(run.truth.labels.open()))
labels = run.labels(known.rows)
order = torch.randperm(len(labels), generator=Seeds(0).torch("halves"))
fit, ask = order[: len(order) // 2], order[len(order) // 2 :]
with Seeds(0).initialising("head"):
    head = torch.nn.Linear(known.body.shape[1], 10)
scaled = (known.body - known.body[fit].mean(0)) / known.body[fit].std(0).clamp_min(1e-6)
optimizer = torch.optim.Adam(head.parameters(), lr=0.02)
for step in range(300):
    optimizer.zero_grad()
    alpha = evidence(head(scaled[fit]), "exp") + 1
    evidential_loss(alpha, labels[fit], "digamma", 0.01 * min(step / 100, 1)).mean().backward()
    optimizer.step()
with torch.no_grad():
    held = opinion(evidence(head(scaled[ask]), "exp") + 1)
uncertainty = held.uncertainty[:, 0].double().numpy()
right = (held.expected.argmax(1) == labels[ask]).numpy()
plots.histogram({"right": uncertainty[right], "wrong": uncertainty[~right]}, "uncertainty")

# %% [markdown]
# Precision of the least uncertain share of rows: flat would mean that uncertainty says nothing.

# %%
ranked = right[np.argsort(uncertainty)]
shares = [0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0]
precision = [float(ranked[: max(1, round(share * len(ranked)))].mean()) for share in shares]
plots.curves(
    [Line("evidential head", shares, precision)], Panel("share of rows taken, least uncertain first", "precision")
)

# %% [markdown]
# ## Finding

# %%
auc = float(weighted_auc(np.ones((1, len(right))), rank(-uncertainty, right))[0])
low, high = percentile_interval(bootstrap_auc(-uncertainty, right, np.random.default_rng(0), 400))
gap = {by: noted["precision_selected"] - noted["precision_rejected"] for by, noted in chosen.items()}
print(
    f"Uncertainty tells right from wrong rows with AUC {auc:.3f} (95 % {low:.3f} to {high:.3f}); taking the surest fifth lifts precision from {precision[-1]:.3f} to {precision[2]:.3f}."
)
print(
    f"In the runs, chosen rows are right more often than others by {gap['uncertainty']:.3f} (by uncertainty) and {gap['confidence']:.3f} (by confidence), one seed each."
)
if low > 0.5:
    print("Act on it: choose by it, and set share_last by the precision you need, not by how many rows there are.")
else:
    print("Act on it: do not choose rows by it on these data; it does not rank.")
if abs(gap["uncertainty"] - gap["confidence"]) < 0.05:
    print("Plain confidence chooses about as well here, so evidence has to earn its extra head elsewhere.")
