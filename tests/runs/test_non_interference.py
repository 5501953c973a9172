"""Nothing of the labels reaches a publisher but through gradients: withhold those, flip every label, compare bytes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from harness import config, edges, train

from parties.local import local_grid
from vfl.store import envelopes
from vfl.types import Kind

WITHHOLD = """
from dataclasses import dataclass
from vfl.types import Kind, Role

@dataclass(frozen=True)
class Withhold:
    kinds = frozenset({Kind.GRADIENT})
    side = Role.ADVERTISER
    binary_only = False

    def init(self):
        return {}

    def apply(self, body, state, ctx):
        return body.new_zeros(body.shape), state
"""

FLIPPED = """
from dataclasses import dataclass
from vfl.data.breast_cancer import BreastCancer

@dataclass(frozen=True)
class Flipped(BreastCancer):
    def labels(self, root):
        return 1 - super().labels(root)
"""


SHUFFLED = """
from dataclasses import dataclass
import numpy as np
from vfl.data.breast_cancer import BreastCancer

@dataclass(frozen=True)
class Shuffled(BreastCancer):
    def labels(self, root):
        return np.random.default_rng(0).permutation(super().labels(root))
"""
CHOOSING = {
    "train": {"epochs": 8, "batch_size": 64, "select": "best_valid"},
    "defense": [{"name": "withheld:Withhold"}],
}


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "withheld.py").write_text(WITHHOLD)
    (tmp_path / "flipped.py").write_text(FLIPPED)
    (tmp_path / "shuffled.py").write_text(SHUFFLED)
    monkeypatch.syspath_prepend(str(tmp_path))


def _seen_by_publisher(flip: bool, withhold: bool) -> dict[str, str]:
    data = "flipped:Flipped" if flip else "breast_cancer"
    defense = [{"name": "withheld:Withhold"}] if withhold else []
    return {
        edge: chain for edge, chain in edges(train(config(data=data, defense=defense))).items() if "publisher" in edge
    }


def test_without_gradients_the_publishers_view_does_not_depend_on_any_label(outside: None) -> None:
    assert _seen_by_publisher(flip=False, withhold=True) == _seen_by_publisher(flip=True, withhold=True)


def test_with_gradients_it_does(outside: None) -> None:
    assert _seen_by_publisher(flip=False, withhold=False) != _seen_by_publisher(flip=True, withhold=False)


def _heard(data: str, folder: Path) -> tuple[list[str], list[tuple[Kind, list[int], list[float]]], int]:
    """Return what a publisher was asked, what it was sent, and how often the validation loss fell."""
    asked: list[str] = []

    def listening(specs, wanted, largest):
        grid = local_grid(specs, wanted.transport)
        carry, node = grid._carrier._call, specs[0].roster.node("publisher")

        def call(message):
            if message.metadata.dst_node_id == node:
                asked.append(message.metadata.message_type)
            return carry(message)

        grid._carrier._call = call
        return grid

    fit = train(config(data=data, **CHOOSING), folder, make_grid=listening)
    received = [one for way, one in envelopes(folder / "parties" / "publisher" / "transcript") if way == "received"]
    losses = list(fit.progress.valid.values())
    falls = sum(loss < min(losses[:place], default=torch.inf) for place, loss in enumerate(losses))
    return asked, [(one.kind, one.rows.tolist(), one.body.tolist()) for one in received], falls


def test_choosing_the_best_epoch_tells_a_publisher_what_is_on_its_transcript_and_no_more(outside, tmp_path) -> None:
    """With gradients withheld labels reach it by the choice alone, and that is an envelope each time, no other call."""
    (asked, received, falls), (other_asked, other_received, other_falls) = (
        _heard(data, tmp_path / str(place)) for place, data in enumerate(("breast_cancer", "shuffled:Shuffled"))
    )
    assert falls != other_falls
    for calls, told, count in ((asked, received, falls), (other_asked, other_received, other_falls)):
        assert sum(kind == Kind.CONTROL for kind, *_ in told) == count
        assert calls.count("evaluate.play") == other_asked.count("evaluate.play") + count - other_falls
    assert [call for call in asked if not call.startswith("evaluate")] == [
        call for call in other_asked if not call.startswith("evaluate")
    ]
    assert [one for one in received if one[0] != Kind.CONTROL] == [
        one for one in other_received if one[0] != Kind.CONTROL
    ]


def test_a_defense_in_a_module_of_ones_own_needs_no_edit_elsewhere(outside: None) -> None:
    """The fixture's `withheld.py` is the whole of it: named by its path, it is mounted at its side and obeyed."""
    fit = train(config(defense=[{"name": "withheld:Withhold"}]))
    assert edges(fit)["advertiser>publisher"] != edges(train(config()))["advertiser>publisher"]
