"""A run on LocalGrid: the digest and what it must not depend on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from harness import config, digest, edges, train

from vfl.store import envelopes
from vfl.types import Envelope, Kind

THREE = {
    "name": "columns",
    "publisher_1": ["mean_radius", "mean_texture"],
    "advertiser": ["worst_area", "worst_smoothness"],
}


def test_two_runs_of_one_configuration_have_one_digest() -> None:
    assert digest(train(config())) == digest(train(config()))


def test_another_seed_gives_another_digest() -> None:
    assert digest(train(config())) != digest(train(config(seed=1)))


@pytest.mark.parametrize("changed", [{"transport": "relay"}, {"wire": {"channel": "on"}}])
def test_the_digest_depends_on_neither_transport_nor_channel(changed: dict[str, object]) -> None:
    assert digest(train(config(**changed))) == digest(train(config()))


def test_the_digest_depends_on_neither_recording_nor_the_folder(tmp_path) -> None:
    assert digest(train(config(), tmp_path)) == digest(train(config(record={"every": 0})))


@pytest.mark.parametrize("codec", ["f16", "int8"])
def test_a_lossy_codec_trains_and_has_its_own_digest(codec: str) -> None:
    assert digest(train(config(wire={"codec": codec}))) != digest(train(config()))


def test_another_publisher_moves_no_other_stream(tmp_path) -> None:
    """Handles, batch order and a publisher's weights are its own: what it sends first does not change by a bit."""
    two, three = tmp_path / "two", tmp_path / "three"
    train(config(split=THREE), two)
    train(config(split={**THREE, "publisher_2": ["mean_area"]}), three)
    assert torch.equal(_first_embedding(two).rows, _first_embedding(three).rows)
    assert torch.equal(_first_embedding(two).body, _first_embedding(three).body)


def _first_embedding(run: Path) -> Envelope:
    sent = (envelope for way, envelope in envelopes(run / "parties" / "publisher_1" / "transcript") if way == "sent")
    return next(envelope for envelope in sent if envelope.kind == Kind.EMBEDDING)


def test_the_advertiser_may_hold_labels_only() -> None:
    fit = train(config(split={"name": "columns", "publisher": ["mean_radius"], "advertiser": []}))
    assert fit.progress.losses[-1] < fit.progress.losses[0]


def test_a_run_may_have_no_publisher_at_all() -> None:
    fit = train(config(split={"name": "columns", "advertiser": ["mean_radius", "worst_area"]}))
    assert fit.progress.losses[-1] < fit.progress.losses[0]
    assert set(edges(fit)) == {"advertiser>referee"}


@pytest.mark.parametrize("overlap", [0.5, 0.05])
def test_alignment_counts_add_up(overlap: float) -> None:
    fit = train(config(align={"overlap": overlap}))
    report = fit.reports["advertiser"]
    train_rows = 569 - report["valid"] - report["test"]
    assert report["train"] == round(overlap * train_rows)
    assert report["held/advertiser"] + report["held/publisher"] == train_rows - report["train"]
    assert report["only"] == report["held/advertiser"]
