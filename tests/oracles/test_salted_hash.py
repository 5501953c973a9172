"""Why salted hashes are unsafe: whoever takes part recovers every id it can name, from a transcript or a run."""

from __future__ import annotations

import hashlib

import torch
from harness import config, train

from experiments.align_files import play
from vfl.align.salted_hash import SaltedHash
from vfl.attacks._dictionary import recover_ids
from vfl.registry import build
from vfl.seeds import Seeds
from vfl.store import load_view
from vfl.transcript import AdversaryView

PHONES = [f"+4930{number:05}" for number in range(20000)]
HELD = PHONES[100:1100:7]
OURS = PHONES[500:600]


def advertisers_view(spec) -> AdversaryView:
    parties = ("publisher", "advertiser")
    ids = dict(zip(parties, (HELD, OURS), strict=True))
    played = play(build("align", spec), ids, {party: Seeds(0).scope(party) for party in parties})
    seen = tuple(each for each in played.envelopes if each.dst == "advertiser")
    return AdversaryView(("advertiser",), 2, sent=(), received=seen)


def test_a_dictionary_recovers_every_id_the_publisher_holds_shared_or_not() -> None:
    found = recover_ids(advertisers_view({"name": "salted_hash", "salt": "secret of two"}), PHONES, "secret of two")
    assert found == set(HELD)
    assert len(found - set(OURS)) > 100


def test_without_the_salt_it_recovers_none() -> None:
    assert recover_ids(advertisers_view({"name": "salted_hash", "salt": "secret of two"}), PHONES, "guess") == set()


def test_psi_gives_it_none() -> None:
    assert recover_ids(advertisers_view({"name": "ecdh_psi"}), PHONES, "") == set()


def test_the_digests_are_sha256_of_salt_and_id() -> None:
    offer = SaltedHash(salt="s").publisher(["ä", "b"], Seeds(0)).offer(None, {}).bodies["advertiser"]  # type: ignore[arg-type]
    assert [row.numpy().tobytes() for row in offer] == [hashlib.sha256(f"s{each}".encode()).digest() for each in "äb"]


def test_a_recorded_run_gives_the_ids_of_all_the_publishers_rows(tmp_path) -> None:
    """The advertiser's transcript of a run, with the row numbers as the dictionary."""
    asked = config(align={"name": "salted_hash", "salt": "known", "overlap": 0.3, "leftover": "publisher"})
    fit = train(asked, tmp_path)
    view = load_view([tmp_path / "parties" / "advertiser" / "transcript"], ("advertiser",), 2)
    found = recover_ids(view, map(str, range(1000)), "known")
    assert len(found) == 569
    alone = fit.reports["advertiser"]["held/publisher"]
    assert alone > 0
    assert torch.tensor(sorted(map(int, found))).tolist() == list(range(569))
