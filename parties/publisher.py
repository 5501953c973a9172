"""A publisher: holds browsing and click features of its users, no label."""

from __future__ import annotations

from parties.feature_party import FeatureParty
from parties.joining import join
from parties.party import Party
from parties.spec import PartySpec
from vfl.align import Aligner
from vfl.methods import Method
from vfl.registry import build


def publisher(spec: PartySpec) -> Party:
    """Return a publisher. It loads its own columns and never a label."""
    aligner: Aligner = build("align", spec.align)
    method: Method = build("method", spec.method)
    player = FeatureParty(spec, aligner.publisher, method.publisher)
    return join(spec, player, own=player.own)
