"""Nothing of the labels reaches a publisher but through gradients: withhold those, flip every label, compare bytes."""

from __future__ import annotations

from pathlib import Path

import pytest
from harness import config, edges, train

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


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "withheld.py").write_text(WITHHOLD)
    (tmp_path / "flipped.py").write_text(FLIPPED)
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


def test_a_defense_in_a_module_of_ones_own_needs_no_edit_elsewhere(outside: None) -> None:
    """The fixture's `withheld.py` is the whole of it: named by its path, it is mounted at its side and obeyed."""
    fit = train(config(defense=[{"name": "withheld:Withhold"}]))
    assert edges(fit)["advertiser>publisher"] != edges(train(config()))["advertiser>publisher"]
