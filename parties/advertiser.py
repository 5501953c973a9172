"""The advertiser: holds the label, what users do after the click, or the label alone."""

from __future__ import annotations

from functools import partial

import torch

from parties.feature_party import FeatureParty
from parties.joining import join
from parties.party import Party
from parties.spec import PartySpec
from vfl.align import Aligner, AlignSide, Ids
from vfl.data.shard import load_pools
from vfl.methods import Method
from vfl.registry import build
from vfl.seeds import Seeds
from vfl.types import Role


def advertiser(spec: PartySpec) -> Party:
    """Return the advertiser. It loads its own columns and the labels of its training and validation rows.

    Test labels are not among them: the referee alone holds those.
    """
    aligner: Aligner = build("align", spec.align)
    method: Method = build("method", spec.method)
    player = FeatureParty(spec, partial(_align, aligner, spec), method.advertiser)
    return join(spec, player, labels=player.labels, own=player.own, known=player.known)


def _align(aligner: Aligner, spec: PartySpec, ids: Ids, seeds: Seeds) -> AlignSide:
    if spec.shard is None:
        raise ValueError("the advertiser has no shard")
    pools = torch.from_numpy(load_pools(spec.shard))
    return aligner.advertiser(ids, pools, seeds, spec.roster.of(Role.PUBLISHER))
