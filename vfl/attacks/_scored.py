"""Which of the received gradients an attack may give an opinion on."""

from __future__ import annotations

import torch
from torch import Tensor

from vfl.transcript import AdversaryView, Pooled


def scorable(view: AdversaryView, seen: Pooled, hints: int) -> Tensor:
    """Return the `(n,)` mask of entries to score, for an attack that knows `hints` labelled rows.

    Hinted rows are left out. The one exception is the referee's upper bound, the same attack granted every label: there
    each entry is scored, and it is the attack that leaves the entry's own label out of its score.
    """
    hinted = torch.isin(seen.rows, view.hints.rows)
    return torch.ones_like(hinted) if grants_all(view, seen, hints) else ~hinted


def grants_all(view: AdversaryView, seen: Pooled, hints: int) -> bool:
    """Whether the view grants more labels than the attack asked for, and no received row is without one."""
    return len(view.hints.rows) > hints and bool(torch.isin(seen.rows, view.hints.rows).all())
