# %% [markdown]
# # What do a publisher's own embeddings know of the labels?
#
# Training pulls the embeddings of positive and negative rows apart, at the publisher too, which holds no label. A
# defense of gradients does not change where embeddings end up. We look at their geometry, before and after a defense
# that acts on it: distance correlation with the labels as a penalty (NoPeek's idea, on labels).

# %%
# %matplotlib inline
import tempfile
from pathlib import Path

import numpy as np

from experiments import plots
from experiments.config import parse
from experiments.inspect import open_run
from experiments.progress import Silent
from experiments.run import simulate
from vfl.metrics.intervals import bootstrap_auc, percentile_interval, rank, weighted_auc

runs = Path(tempfile.mkdtemp())

# %%
SMALL = {
    "backend": "local",
    "holdout": {"test": 0.7},
    "train": {"epochs": 4, "batch_size": 256},
    "attack": [],
    "references": [],
}
DEFENSES = {
    "no defense": [],
    "marvell s=4": [{"name": "marvell", "s": 4}],
    "dcor on labels": [{"name": "dcor", "protects": "labels", "weight": 0.5}],
}
opened = {}
for name, stack in DEFENSES.items():
    out = runs / name.replace(" ", "_")
    simulate(parse({**SMALL, "defense": stack}), out, ray_address=None, resume=None, progress=Silent())
    opened[name] = open_run(out)

# %% [markdown]
# Each row's last embedding, on its first two principal directions. Axes differ from panel to panel; what counts is
# whether the two classes lie apart.

# %%
places, first_direction, classes = {}, {}, {}
for name, run in opened.items():
    seen = run.view("publisher").embeddings().last()
    body = seen.body.double().numpy()
    centred = body - body.mean(axis=0)
    _, spread, directions = np.linalg.svd(centred, full_matrices=False)
    places[name] = centred @ directions[:2].T
    first_direction[name] = (centred @ directions[0], spread[0] ** 2 / (spread**2).sum())
    classes[name] = run.labels(seen.rows).numpy()
    rng = np.random.default_rng(0)
    shown = rng.choice(len(body), min(1200, len(body)), replace=False)
    places[name] = places[name][shown]

drawn = {
    name: classes[name][
        np.random.default_rng(0).choice(len(classes[name]), min(1200, len(classes[name])), replace=False)
    ]
    for name in opened
}
plots.geometry(places, drawn["no defense"])

# %% [markdown]
# How well the first principal direction alone tells the classes apart, whichever its sign: what the spectral attack
# does (Sun et al., 2022). 0.5 is guessing.

# %%
found = {}
for name, run in opened.items():
    scores, share = first_direction[name]
    positive = classes[name] == 1
    auc = float(weighted_auc(np.ones((1, len(scores))), rank(scores, positive))[0])
    drawn_auc = bootstrap_auc(scores if auc >= 0.5 else -scores, positive, np.random.default_rng(1), 200)
    found[name] = (max(auc, 1 - auc), percentile_interval(drawn_auc), run.row["utility"]["test"]["auc"])
    low, high = found[name][1]
    print(
        f"{name:15s} AUC of the first direction {found[name][0]:.3f} ({low:.3f} to {high:.3f}), {share:.0%} of the variance; test AUC {found[name][2]:.4f}"
    )

# %% [markdown]
# ## Finding

# %%
bare, noised, kept = found["no defense"], found["marvell s=4"], found["dcor on labels"]
same = noised[1][1] > bare[1][0]
print(
    f"Noise on gradients leaves embeddings {'as telling as they were' if same else 'nearly as telling' if noised[0] - 0.5 > 0.8 * (bare[0] - 0.5) else 'less telling'}: {bare[0]:.3f} without, {noised[0]:.3f} with it."
)
print(
    f"The penalty on embeddings brings {bare[0]:.3f} to {kept[0]:.3f} and test AUC from {bare[2]:.4f} to {kept[2]:.4f}."
)
if kept[1][1] < bare[1][0]:
    print(
        "Act on it: where the publisher must not learn labels, defend embeddings as well as gradients, and sweep the weight first: "
        f"at this one it cost {100 * (bare[2] - kept[2]):.1f} points of AUC on the one seed run here."
    )
else:
    print("Act on it: this penalty at this weight does not help; raise its weight in a sweep before relying on it.")
