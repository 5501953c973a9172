# %% [markdown]
# # Is a claimed epsilon true, and what is noise without one worth?
#
# An accountant gives an upper bound on what can be learned, an attacker's success a lower one. If the attacker's lies
# above the accountant's, the claim is false. We audit label privacy through the gradients that a publisher received.

# %%
# %matplotlib inline
import tempfile
from pathlib import Path

import numpy as np

from experiments import plots
from experiments.config import parse
from experiments.inspect import Opened, open_run
from experiments.plots import Line, Panel
from experiments.progress import Silent
from experiments.run import simulate
from vfl.privacy.audit import Trials, clopper_pearson

runs = Path(tempfile.mkdtemp())

# %% [markdown]
# Randomized response flips labels at their source, with an epsilon that is exact. Noise scaled to the batch's largest
# gradient has no accountant, so its ledger is empty: the audit is all there is.

# %%
SMALL = {
    "backend": "local",
    "holdout": {"test": 0.6},
    "train": {"epochs": 1, "batch_size": 256},
    "attack": [],
    "references": [],
}
CLAIMS = (0.5, 1.0, 2.0, 4.0)
STACKS = {f"randomized_response {claim:g}": [{"name": "randomized_response", "epsilon": claim}] for claim in CLAIMS}
STACKS |= {"gaussian_noise": [{"name": "gaussian_noise", "ratio": 1.0}], "no defense": []}
opened = {}
for place, (name, stack) in enumerate(STACKS.items()):
    out = runs / str(place)
    simulate(parse({**SMALL, "defense": stack}), out, ray_address=None, resume=None, progress=Silent())
    opened[name] = open_run(out)

# %% [markdown]
# The attacker calls a row positive by the side of its gradient along the first principal direction of all gradients;
# the side of fewer rows is the positive one, as positives are rarer. Its threshold, zero, and its direction use no
# label. Each row is one trial: positives called positive against negatives called positive.
#
# These labels are real, and columns foretell them, so part of what the attacker gets right would be right without the
# wire: a bound above a claim is a reason to audit again with labels that are fair coins, as the tests do, and no
# refutation by itself. A bound below the claim is what it says.


# %%
def audit(run: Opened) -> tuple[float, Trials]:
    seen = run.view("publisher").gradients().last()
    body = seen.body.double().numpy()
    _, _, directions = np.linalg.svd(body, full_matrices=False)
    side = body @ directions[0]
    called = (side > 0) if (side > 0).mean() < 0.5 else (side <= 0)
    positive = run.labels(seen.rows).numpy() == 1
    trials = Trials(
        int((called & positive).sum()), int(positive.sum()), int((called & ~positive).sum()), int((~positive).sum())
    )
    return clopper_pearson(trials), trials


bounds = {}
for name, run in opened.items():
    bounds[name], trials = audit(run)
    claim = [entry["epsilon"] for entry in run.row["privacy"]["ledger"]]
    told = f"claimed {claim[0]:.2f}" if claim else "no claim"
    print(
        f"{name:25s} {told:13s} at least {bounds[name]:.2f}   ({trials.true_positives}/{trials.members} and {trials.false_positives}/{trials.others} called positive)"
    )

# %%
audited = [bounds[f"randomized_response {claim:g}"] for claim in CLAIMS]
plots.curves(
    [Line("claimed", CLAIMS, CLAIMS), Line("audited, lower bound at 95 %", CLAIMS, audited)],
    Panel("epsilon claimed", "epsilon"),
)

# %% [markdown]
# ## Finding

# %%
refuted = [claim for claim, bound in zip(CLAIMS, audited, strict=True) if bound > claim]
if refuted:
    print(
        f"Exceeded claims: {refuted}. Columns foretell labels too, and each bound is wrong in 5 of 100 audits: audit again with labels that are fair coins before acting."
    )
else:
    print(
        f"No claim is exceeded; the audit reaches {audited[1] / CLAIMS[1]:.0%} of the claim at epsilon 1, so the accountant is not wasteful either."
    )
print(
    f"Noise without an accountant allows no epsilon below {bounds['gaussian_noise']:.2f} in this run; without any defense none below {bounds['no defense']:.2f}."
)
print(
    "Act on it: state an epsilon only where the ledger has one, and audit it once; treat noise without one as obfuscation."
)
