"""A run aligned in private trains on the rows, in the order and to the weights of one aligned in the clear."""

from __future__ import annotations

import weakref

import pytest
import torch
from harness import config, digest, edges, train

from vfl import checkpoint
from vfl.exchange import OneByOne
from vfl.store import envelopes
from vfl.types import Kind

THREE = {"name": "columns", "one": ["mean_radius"], "two": ["mean_texture"], "advertiser": ["worst_area"]}
PRIVATE = [{"name": "ecdh_psi"}, {"name": "salted_hash"}]
SHARED = {"overlap": 0.4}


@pytest.mark.parametrize("aligner", PRIVATE, ids=["ecdh_psi", "salted_hash"])
@pytest.mark.parametrize("split", [None, THREE], ids=["two parties", "three parties"])
def test_the_run_is_the_one_that_plain_alignment_gives(aligner, split, tmp_path) -> None:
    changed = {} if split is None else {"split": split}
    plain = train(config(align={"name": "plain", **SHARED}, **changed), tmp_path / "plain")
    private = train(config(align={**aligner, **SHARED}, **changed), tmp_path / "private")
    orders = [checkpoint.load(tmp_path / name / "referee" / "order.safetensors")[0] for name in ("plain", "private")]
    assert torch.equal(orders[0]["order"], orders[1]["order"])
    assert plain.progress.losses == private.progress.losses
    assert plain.reports == private.reports
    assert digest(plain) != digest(private)


def test_the_same_seed_gives_the_same_digest_and_another_another() -> None:
    aligned = {"align": {"name": "ecdh_psi"}}
    assert digest(train(config(**aligned))) == digest(train(config(**aligned)))
    assert digest(train(config(**aligned))) == digest(train(config(**aligned, transport="relay")))
    assert edges(train(config(**aligned))) != edges(train(config(**aligned, seed=1)))


@pytest.mark.parametrize("aligner", ["plain", "ecdh_psi"])
def test_announcements_are_in_memory_one_at_a_time(aligner, monkeypatch) -> None:
    made, make = [], OneByOne.__getitem__

    def watched(self, party):
        assert not [each for each in made if each() is not None], "an earlier body is still there"
        body = make(self, party)
        made.append(weakref.ref(body))
        return body

    monkeypatch.setattr(OneByOne, "__getitem__", watched)
    train(config(align={"name": aligner}, split=THREE, transport="relay"))
    assert len(made) == (3 if aligner == "plain" else 6)  # the last is made of one of the matching's own


def test_the_messages_are_on_both_transcripts(tmp_path) -> None:
    train(config(align={"name": "ecdh_psi"}), tmp_path)
    seen = {
        party: {
            (way, each.kind, each.src, each.dst, tuple(each.body.shape))
            for way, each in envelopes(tmp_path / "parties" / party / "transcript")
            if each.step == 0
        }
        for party in ("publisher", "advertiser")
    }
    asked = (Kind.PSI, "advertiser", "publisher", (570, 32))
    answered = (Kind.PSI, "publisher", "advertiser", (1140, 32))
    announced = (Kind.CONTROL, "advertiser", "publisher", (571, 2))
    assert seen["publisher"] == {("received", *asked), ("sent", *answered), ("received", *announced)}
    told = (Kind.CONTROL, "advertiser", "referee", (569, 2))
    assert seen["advertiser"] == {("sent", *asked), ("received", *answered), ("sent", *announced), ("sent", *told)}
