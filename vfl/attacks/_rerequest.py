"""Asking again: which rows converted between two trainings, from the gradients that a publisher got in both.

Conversions come late, so an advertiser trains again on the same rows with newer labels. Whoever took part both times
sees what one run hides: rows whose gradient turned are those whose label did.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vfl.attacks.averaging import averaged
from vfl.transcript import Pooled


def late_conversions(before: Pooled, after: Pooled) -> tuple[Tensor, Tensor]:
    """Return the handles that were in both, and a score each, greater where the row is likelier to have converted.

    `before` and `after` are gradients of each row's own loss (unscaled), by handles that mean the same rows in both. No
    label is granted. A row's gradients are averaged in each; the direction in which the differences vary most is that
    of the label, and turned so that the few rows far out lie up: labels change from 0 to 1 and never back, and for few.
    The estimator is ours. Where the second model starts elsewhere, its cut layer has no direction in common with the
    first's and the score is noise.
    """
    rows, earlier = averaged(before)
    others, later = averaged(after)
    kept, place = torch.isin(rows, others), torch.isin(others, rows)
    change = later[place] - earlier[kept]
    centred = change - change.median(dim=0).values
    _, _, axes = torch.linalg.svd(centred, full_matrices=False)
    moved = centred @ axes[0]
    return rows[kept], moved if float(moved.pow(3).mean()) >= 0 else -moved
