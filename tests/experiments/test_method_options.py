"""Every option of every method refuses what it cannot take, in one line, before anything starts."""

from __future__ import annotations

import dataclasses
from typing import Any, get_type_hints

import pytest

from experiments.checks import check_members
from experiments.schema import Config
from vfl.errors import UserError
from vfl.registry import find, names

COUNT, STEPS = ("x", 1.5, -1, 0), ("x", 1.5, -1)
"""What a number that starts at 1, and one that starts at 0, refuses."""

WEIGHT, WORD, SWITCH = ("x", -1), ("x", 3), ("x", 2)
IMPUTER = (3, "x", "", {"steps": 3}, {"name": "zero", "steps": 1}, {"name": "diffusion", "steps": -1})
BAD: dict[str, dict[str, tuple[Any, ...]]] = {
    "advonly": {"impute": IMPUTER, "min_steps": STEPS, "refit_every": COUNT},
    "celu": {"local_steps": COUNT, "cache": COUNT, "threshold": ("x", 1.5, -1.5)},
    "diffu_at": {"impute": IMPUTER, "min_steps": STEPS, "cross_fit": SWITCH},
    "fedbcd": {"local_steps": COUNT, "order": WORD},
    "fedcvt": {
        "temperature": (*WEIGHT, 0),
        "keys": COUNT,
        "thresholds": (0.5, [0.5, 0.5], [0.5, 0.5, 2], [0.5, 0.5, 0.5, 0.5]),
        "min_steps": STEPS,
        "common_weight": WEIGHT,
        "overlap_weight": WEIGHT,
        "estimate_weight": WEIGHT,
        "attention_weight": WEIGHT,
    },
    "fedhssl": {"dim": COUNT, "mask": ("x", 0, 1), "local": WEIGHT, "pretrain_epochs": COUNT},
    "fedud": {"impute": IMPUTER, "warm_steps": STEPS, "min_steps": STEPS, "refit_every": COUNT},
    "heuristic": {"key": (3, None), "min_steps": STEPS, "cross_fit": SWITCH},
    "jpl": {"imitation": WEIGHT, "rank": WEIGHT},
    "local": {"min_steps": STEPS},
    "local_all": {"min_steps": STEPS},
    "oracle": {},
    "risa": {
        "impute": IMPUTER,
        "rounds": (*COUNT, 1_000_000_000),
        "warm_steps": COUNT,
        "round_steps": COUNT,
        "head_steps": STEPS,
        "share_first": ("x", -0.1, 0.5),
        "share_last": ("x", 1.1, 0.01),
        "per_class": SWITCH,
        "select_by": WORD,
        "fusion": WORD,
        "imputed_weight": ("x", -0.1, 1.1),
        "leftover_labels": WORD,
        "publisher_weight": WEIGHT,
        "soft": SWITCH,
        "predict": WORD,
        "activation": WORD,
        "loss": WORD,
        "evidence_weight": WEIGHT,
        "divergence": WEIGHT,
        "anneal_steps": STEPS,
        "refit_every": COUNT,
        "least_precision": ("x", -0.1, 1.1),
    },
    "secure_sum": {},
    "ss_vfl": {"mask": ("x", 0, 1), "pretrain_epochs": COUNT},
    "vanilla": {},
    "vfl_mpd": {"pretrain_epochs": COUNT},
}
CASES = [
    ({"name": name, option: value}, option)
    for name, options in BAD.items()
    for option, values in options.items()
    for value in values
]
TOGETHER = [
    ({"name": "risa", "predict": "fused", "evidence_weight": 0}, "heads that predict"),
    ({"name": "risa", "share_first": 0.4, "share_last": 0.3}, "share_first <= share_last"),
]


def refused(method: dict[str, Any]) -> UserError:
    with pytest.raises(UserError) as error:
        check_members(Config.model_validate({"method": method}))
    return error.value


def test_every_option_of_every_method_is_tried():
    assert sorted(BAD) == names("method")
    for name, options in BAD.items():
        member = find("method", name)
        assert set(options) == {field.name for field in dataclasses.fields(member)}
        assert set(options) <= set(get_type_hints(member))


@pytest.mark.parametrize(("method", "option"), CASES, ids=str)
def test_a_bad_option_is_refused_in_one_line(method, option):
    told = str(refused(method))
    assert "method" in told
    assert "\n" not in told
    assert "allowed" in told or option in told


@pytest.mark.parametrize(("method", "why"), TOGETHER)
def test_options_that_do_not_go_together_are_refused(method, why):
    assert why in str(refused(method))


def test_an_imputers_mistake_is_named_under_the_method():
    assert str(refused({"name": "risa", "impute": "nope"})).startswith("method.impute.name: ")
    assert str(refused({"name": "risa", "impute": {"name": "zero", "steps": 1}})).startswith("method.impute.steps: ")
