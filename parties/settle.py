"""What becomes of the rows that alignment found shared, for sources whose parties bring rows of their own.

Every party computes it alike, from the run's cut and the number of shared training rows. Where the cut says that all
shared rows stay common, nothing changes. It plays a smaller overlap than the parties have: the alignment's own messages
still show the whole of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from vfl.align import Alignment
from vfl.data.cut import ALL, Shard
from vfl.data.shard import load_ids
from vfl.errors import DataError
from vfl.types import PartyId

Sizes = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Settled:
    """The shared rows as the referee sees them: `ids` by handle, the pools' `sizes`, and the `dealt` rows.

    `dealt` holds, by party, the ids that alignment found shared and the cut gave to that party alone.
    """

    ids: Tensor
    sizes: Sizes
    dealt: Mapping[PartyId, Tensor] = field(default_factory=dict[PartyId, Tensor])


def settle(alignment: Alignment, shard: Shard) -> Alignment:
    """Return a party's alignment after its cut: fewer common rows, and its own share of the others.

    Raises `DataError` where no row is left to train or to test on.
    """
    if not shard.keyed:
        return alignment
    holders = torch.from_numpy(shard.cut.deal(alignment.train))
    train = alignment.order[: alignment.train]
    order = torch.cat([train[holders == ALL], alignment.order[alignment.train :]])
    mine = train[holders == shard.cut.parties.index(shard.party)]
    only = torch.cat([alignment.only, mine]).sort().values
    held = dict(alignment.held)
    if shard.owns_label:
        only = only[~torch.from_numpy(shard.cut.fixed())[only]]
        for place, party in enumerate(shard.cut.parties):
            held[party] = held.get(party, 0) + int((holders == place).sum())
    common = int((holders == ALL).sum())
    _check(common, alignment.test, shard)
    return replace(alignment, order=order, train=common, only=only, held=held)


def settled(order: Tensor, shard: Shard) -> Settled:
    """Return what becomes of the referee's copy of the order, `(shared, 2)`: the advertiser's row and pool."""
    ids, pools = torch.from_numpy(load_ids(shard))[order[:, 0]], order[:, 1]
    train, valid, test = (int((pools == code).sum()) for code in range(3))
    if not shard.keyed:
        return Settled(ids, (train, valid, test))
    holders = torch.from_numpy(shard.cut.deal(train))
    common = holders == ALL
    dealt = {party: ids[:train][holders == place] for place, party in enumerate(shard.cut.parties)}
    return Settled(torch.cat([ids[:train][common], ids[train:]]), (int(common.sum()), valid, test), dealt)


def leftover(shard: Shard, own: Tensor, found: Settled) -> Tensor:
    """Return `(m,)` places, ascending, in a party's own ids: the training rows that it alone holds."""
    others = [ids for party, ids in found.dealt.items() if party != shard.party]
    alone = ~torch.isin(own, torch.cat([found.ids, *others]))
    if shard.owns_label and shard.keyed:
        alone &= ~torch.from_numpy(shard.cut.fixed())
    return torch.from_numpy(np.flatnonzero(alone.numpy()))


def _check(train: int, test: int, shard: Shard) -> None:
    if train and test:
        return
    files = [str(shard.source[role]) for role in ("publisher", "advertiser") if role in shard.source]
    message = f"got {train} shared rows to train on and {test} to test on, allowed one or more of each"
    message = f"{message}; check that the parties' keys are written alike"
    raise DataError(message, key=str(shard.source.get("key", "")), where=", ".join(files))
