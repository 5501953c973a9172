"""Which envelopes a party gives to a hop: of the kind and from the senders that it takes, and of nobody else."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from harness import config

from experiments.plan import open_world, party_specs
from parties.delivery import Delivery
from parties.joining import planned, run_hops
from vfl.errors import WireError
from vfl.types import Envelope, Kind

SPLIT = {"name": "columns", "one": ["mean_radius"], "two": ["mean_area"], "advertiser": ["mean_texture"]}


@pytest.fixture(scope="module")
def deliver():
    """The advertiser's delivery in a run of `vanilla` with two publishers."""
    asked = config(split=SPLIT)
    spec = next(each for each in party_specs(asked, open_world(asked), None) if each.party == "advertiser")
    return partial(Delivery, spec, {hop.name: hop for hop in run_hops(planned(spec))})


def envelope(kind: Kind, src: str, dtype: torch.dtype = torch.float32) -> Envelope:
    return Envelope(3, kind, src, "advertiser", torch.arange(4), torch.ones(4, 2).to(dtype))


def test_a_hop_is_given_what_it_takes(deliver):
    made = deliver()
    made.refuse_strangers([made.hop("fuse")], [envelope(Kind.EMBEDDING, "one"), envelope(Kind.EMBEDDING, "two")])


@pytest.mark.parametrize(
    ("kind", "src"),
    [
        (Kind.EMBEDDING, "referee"),
        (Kind.EMBEDDING, "advertiser"),
        (Kind.EMBEDDING, "stranger"),
        (Kind.GRADIENT, "one"),
        (Kind.PSI, "one"),
        (Kind.SCORE, "one"),
    ],
)
def test_an_envelope_that_no_hop_of_the_message_takes_is_refused_by_kind_and_sender(deliver, kind, src):
    made = deliver()
    for _ in range(2):  # whoever may send is noted the first time
        with pytest.raises(WireError, match=f"advertiser got the {kind.value} envelope of '{src}' at fuse"):
            made.refuse_strangers([made.hop("fuse")], [envelope(Kind.EMBEDDING, "one"), envelope(kind, src)])


def test_integers_are_embeddings_under_masks_alone(deliver):
    plain, masked = deliver(), deliver(masked=True)
    with pytest.raises(WireError, match=r"of type torch.int64 at fuse; it cannot use the embedding"):
        plain.refuse_strangers([plain.hop("fuse")], [envelope(Kind.EMBEDDING, "one", torch.int64)])
    masked.refuse_strangers([masked.hop("fuse")], [envelope(Kind.EMBEDDING, "one", torch.int64)])


@pytest.mark.parametrize("name", ["forward", "backward", "collect", "nothing", ""])
def test_a_hop_of_another_role_or_of_no_run_is_refused(deliver, name):
    with pytest.raises(WireError, match=f"was asked for hop '{name}', allowed those of a advertiser"):
        deliver().hop(name)


def test_mail_that_was_cut_out_is_named_where_a_handler_failed_for_lack_of_it(deliver):
    made, error = deliver(), KeyError("two")
    given = {"one": envelope(Kind.EMBEDDING, "one")}
    with pytest.raises(WireError, match="advertiser got no mail of two at fuse; it was cut out on the way"):
        made.refuse_misfits(made.hop("fuse"), given, lambda: 4, error)
