"""What the messages of PSI can tell each party: sizes and the intersection, and nothing that depends on other ids."""

from __future__ import annotations

import numpy as np
import torch

from experiments.align_files import Played, party_names, play
from vfl.registry import build
from vfl.seeds import Seeds
from vfl.types import REFEREE

PSI = {"name": "ecdh_psi"}


def align(spec, found, seed: int = 0) -> Played:
    parties = party_names(len(found))
    return play(
        build("align", spec), dict(zip(parties, found, strict=True)), {p: Seeds(seed).scope(p) for p in parties}
    )


def received(played: Played, party: str) -> list[tuple[str, str, tuple[int, ...]]]:
    return [(each.kind.value, each.src, tuple(each.body.shape)) for each in played.envelopes if each.dst == party]


def bodies(played: Played, party: str) -> list[torch.Tensor]:
    return [each.body for each in played.envelopes if each.dst == party]


def test_each_party_receives_what_is_listed_and_no_more() -> None:
    played = align(PSI, [list("abcde"), list("cdefgh"), list("aceg")])
    for publisher, _ in (("publisher_1", 5), ("publisher_2", 6)):
        assert received(played, publisher) == [("psi", "advertiser", (5, 32)), ("control", "advertiser", (4, 2))]
    assert received(played, "advertiser") == [("psi", "publisher_1", (11, 32)), ("psi", "publisher_2", (12, 32))]
    assert received(played, REFEREE) == [("control", "advertiser", (2, 2))]


def test_what_a_publisher_is_told_is_fixed_by_sizes_and_the_intersection() -> None:
    """Another advertiser with other ids outside the intersection sends the same announcement, byte for byte."""
    theirs = [f"p{place}" for place in range(30)]
    ours = theirs[:10] + [f"x{place}" for place in range(20)]
    other = theirs[:10] + [f"y{place}" for place in range(20)]
    first, second = (bodies(align(PSI, [theirs, each]), "publisher") for each in (ours, other))
    assert torch.equal(first[1], second[1])
    assert first[0].shape == second[0].shape


def test_what_a_publisher_learns_does_not_depend_on_another() -> None:
    """Two publishers: what the second holds beyond the shared rows changes nothing that the first receives."""
    one, ours = list("abcdef"), list("abcxyz")
    first, second = (bodies(align(PSI, [one, two, ours]), "publisher_1") for two in (list("abcdx"), list("abcyzw")))
    assert all(torch.equal(left, right) for left, right in zip(first, second, strict=True))


def test_no_two_messages_share_an_entry_and_none_recurs_in_another_run() -> None:
    """Masked with a secret each, the same id looks different in every list, so lists cannot be joined."""
    ids = [f"user {place}" for place in range(20)]
    entries = []
    for seed in range(3):
        played = align(PSI, [ids, ids, ids], seed)
        sent = {each.src: each.body for each in played.envelopes if each.kind.value == "psi"}
        entries += [row.tobytes() for body in sent.values() for row in body.numpy()]
    assert len(set(entries)) == len(entries)


def test_order_on_the_wire_says_nothing_of_the_table() -> None:
    """Sorting the table changes the places by a fixed shuffle only: the list is shuffled whatever the ids are."""
    ids = [f"{place:03}" for place in range(200)]
    alignments = [align(PSI, [ids, ids], seed).alignments["publisher"] for seed in range(8)]
    places = np.stack([alignment.order.numpy() for alignment in alignments])
    correlations = [np.corrcoef(np.arange(200), each)[0, 1] for each in places]
    assert np.abs(correlations).max() < 4 / np.sqrt(200)
    told = align(PSI, [ids, ids]).envelopes[-2].body[:-2, 0]
    assert abs(np.corrcoef(told, alignments[0].order.numpy())[0, 1]) < 4 / np.sqrt(200)


def test_bits_of_masked_ids_are_those_of_random_points() -> None:
    """Each of the 256 bits of x-coordinates is set half of the time, whatever the ids are."""
    played = align(PSI, [[f"{place}" for place in range(1500)], ["0"]])
    points = next(each.body for each in played.envelopes if each.src == "publisher")[3:].numpy()
    share = np.unpackbits(points, axis=1).mean(axis=0)
    assert np.abs(share - 0.5).max() < 5 * 0.5 / np.sqrt(len(points))
