"""What the defense sweep runs: which stacks of defenses, against which attacks, on which data, in which order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

Options = dict[str, Any]
Stack = tuple[Options, ...]

SEEDS = 3
TOPS: dict[str, Options] = {"linear": {"name": "linear"}, "hidden": {"name": "mlp", "hidden": [64]}}
SETS: dict[str, Options] = {
    "synthetic_ads": {
        "data": {"name": "synthetic_ads", "rows": 60_000, "cvr": 0.006},
        "train": {"epochs": 2, "batch_size": 1024, "lr": 3e-3},
    },
    "criteo": {"data": "criteo", "train": {"epochs": 2, "batch_size": 256, "lr": 1e-3}},
}
"""What is trained, by data set; nothing of it was chosen by a test row."""

LABELLED_ROWS, KNOWN_ROWS = 10, 500
LABEL_ATTACKS: tuple[Options, ...] = (
    {"name": "norm"},
    {"name": "direction", "hints": 1},
    {"name": "hint_norm", "hints": LABELLED_ROWS},
    {"name": "likelihood_ratio", "hints": LABELLED_ROWS},
)
COLUMN_ATTACKS: dict[str, Options] = {
    "synthetic_ads": {"name": "decoder", "known_rows": KNOWN_ROWS, "steps": 500},
    "criteo": {"name": "attribute_inference", "column": "C14", "known_rows": KNOWN_ROWS},
}
"""Numbers where the publisher has some, else one categorical column: 24 values, the most frequent in 36 % of rows."""

DIGITS: dict[str, Options] = {
    "digits": {"data": "digits", "train": {"epochs": 10, "batch_size": 16, "lr": 0.05, "optimizer": "sgd"}}
}
SUM: dict[str, Options] = {"sum": {"name": "sum"}}


def over(name: str, option: str, *values: float, **fixed: Any) -> list[Stack]:  # noqa: ANN401 - options of any kind
    """Return a stack of one defense for each value of its strength."""
    return [({"name": name, option: value, **fixed},) for value in values]


WATCHED: Stack = (
    {"name": "norm_check"},
    {"name": "norm_check", "on": "gradient"},
    {"name": "consistency"},
    {"name": "grad_scrutiny"},
)
"""Guards on an honest run: what they flag there are false alarms."""

FIRST: tuple[Stack, ...] = (
    (),
    ({"name": "mixpro"},),
    *over("marvell", "s", 1.0, 4.0, 16.0),
    ({"name": "max_norm"},),
    *over("gaussian_noise", "ratio", 1.0, 4.0),
    *over("randomized_response", "epsilon", 1.0, 3.0),
    *over("tpsl", "epsilon", 1.0, 3.0, draw="once"),
    ({"name": "grad_average"},),
)
THEN: tuple[Stack, ...] = (
    WATCHED,
    ({"name": "mixpro", "mean": "mixed"},),
    ({"name": "mixpro", "small": "half"},),
    *over("mixpro", "goal_degrees", 10.0, 60.0),
    *over("marvell", "s", 0.25),
    *over("marvell", "sum_kl", 0.16),
    *over("gaussian_noise", "ratio", 0.25),
    *over("randomized_response", "epsilon", 5.0),
    *over("tpsl", "epsilon", 10.0, draw="once"),
    *over("grad_perturb", "epsilon", 1.0, 3.0, 10.0),
    *over("clipped_gaussian", "noise_multiplier", 0.5, 1.0, 2.0, on="gradient", clip_l2=0.1),
    *over("clipped_laplace", "epsilon", 1.0, 3.0, 10.0, on="gradient", clip_l1=0.1),
    *over("mid", "weight", 1e-3, 1e-2, 1e-1, at="top"),
    *over("laplace_noise", "ratio", 0.25, 1.0, 4.0),
    *over("grad_clip", "clip_l2", 0.001, 0.01, 0.1),
    *over("grad_compression", "keep", 0.5, 0.1, 0.02),
    *over("discrete_grad", "bins", 12, 4, 2),
    *over("ppdl", "strength", 0.1, 1.8, 100.0),
    *over("lp_2st", "epsilon", 1.0, 3.0, 5.0),
    *over("rr_with_prior", "epsilon", 1.0, 3.0, 5.0),
    *over("kdk", "gap", 0.0, 0.2, 0.5),
    *over("cae", "entropy", 0.0, 1.0, 10.0),
    *over("dcae", "entropy", 0.0, 1.0, 10.0),
    *over("dcor", "weight", 0.1, 1.0, 10.0, protects="labels"),
    *over("pe_loss", "weight", 0.01, 0.1, 1.0),
    *over("fedpass", "reach", 1.0, 5.0, 25.0, at="top"),
    ({"name": "marvell", "s": 4.0}, {"name": "max_norm"}),
)
COLUMNS: tuple[Stack, ...] = (
    (),
    *over("clipped_gaussian", "noise_multiplier", 0.25, 1.0, 4.0, clip_l2=1.0),
    *over("clipped_laplace", "epsilon", 100.0, 10.0, 1.0, clip_l1=1.0),
    *over("dp_sgd", "noise_multiplier", 0.5, 2.0, 8.0),
    *over("dcor", "weight", 0.1, 1.0, 10.0),
    *over("mid", "weight", 1e-3, 1e-2, 1e-1),
    *over("adversarial", "weight", 0.1, 1.0, 10.0),
    *over("fedpass", "reach", 1.0, 5.0, 25.0),
    *over("dropout", "rate", 0.2, 0.5, 0.8),
    *over("shredder", "scale", 0.5, 2.0, 8.0),
)
SCORES: tuple[Stack, ...] = ((), *over("rounding", "digits", 4, 3, 2, 1))


@dataclass(frozen=True, slots=True)
class Aim:
    """What is protected: the stacks that protect it in tiers, the data and tops they run on, and who looks how.

    `attacks` are the attacks by data set. A tier is run whole before the next; within one, a seed of all places of
    `order` (data, top) before the next seed, so that a sweep cut short has every stack once before any has it thrice.
    """

    sets: Mapping[str, Options]
    tops: Mapping[str, Options]
    tiers: tuple[tuple[Stack, ...], ...]
    order: tuple[tuple[str, str], ...]
    attacks: Mapping[str, tuple[Options, ...]]
    threat: Options
    model: Options = field(default_factory=dict[str, Any])

    @property
    def stacks(self) -> tuple[Stack, ...]:
        """All stacks, in the order of their tables."""
        return tuple(stack for tier in self.tiers for stack in tier)

    def cells(self) -> Iterator[tuple[str, str, int, Stack]]:
        """Yield data, top, seed and stack of every run, in the order of their making."""
        for tier in self.tiers:
            for seed in range(SEEDS):
                for data, top in self.order:
                    for stack in tier:
                        yield data, top, seed, stack


TOLD_TOPS = {"linear": "linear top", "hidden": "top with one hidden layer", "sum": "plain sum"}
"""What a top is called on a page."""

ORDER = (("criteo", "linear"), ("synthetic_ads", "linear"), ("criteo", "hidden"), ("synthetic_ads", "hidden"))
AIMS: dict[str, Aim] = {
    "labels": Aim(
        SETS,
        TOPS,
        (FIRST, THEN),
        ORDER,
        dict.fromkeys(SETS, LABEL_ATTACKS),
        {"hints": {"labelled_rows": LABELLED_ROWS}},
    ),
    "columns": Aim(
        SETS,
        TOPS,
        (COLUMNS,),
        ORDER,
        {name: (attack,) for name, attack in COLUMN_ATTACKS.items()},
        {"adversaries": ["advertiser"], "hints": {"known_rows": KNOWN_ROWS}},
    ),
    "scores": Aim(
        DIGITS,
        SUM,
        (SCORES,),
        (("digits", "sum"),),
        {"digits": ({"name": "equality_solving"},)},
        {"adversaries": ["advertiser"], "hints": {"victim_models": True}},
        {"bottom": "linear", "embedding_dim": 10},
    ),
}
"""Labels against a publisher; a publisher's columns against the advertiser, by embeddings and by scores."""
