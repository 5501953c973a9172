"""The arms that training methods are compared by, and the studies that compare them.

An arm spends a study's steps as its `spends` say: each option gets a share of them, in steps or in epochs of a pool.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vfl.data.images import cut_pixels
from vfl.types import Pool

Options = dict[str, Any]
Cell = tuple[str, float, int]
"""An arm's name, an overlap and a seed."""

EPOCHS = "epochs"
"""The key of `spends` that stands for `train.epochs`."""


@dataclass(frozen=True)
class Arm:
    """A method with its options. `spends` gives options a share of the budget: in steps, or in epochs over a pool."""

    method: str
    options: Options = field(default_factory=dict[str, Any])
    spends: Mapping[str, tuple[float, Pool | None]] = field(default_factory=dict[str, tuple[float, Pool | None]])


ALIGNED = {EPOCHS: (1.0, Pool.TRAIN)}
STEPS = {"min_steps": (1.0, None)}
ROUNDS = 4
IN_ROUNDS = {"warm_steps": (1 / 3, None), "round_steps": (1 / 2 / ROUNDS, None), "head_steps": (1 / 6 / ROUNDS, None)}
EARLY = {"warm_steps": (1 / 12, None), "round_steps": (3 / 4 / ROUNDS, None), "head_steps": (1 / 6 / ROUNDS, None)}
UNTAUGHT = {"warm_steps": (1 / 3, None), "round_steps": (2 / 3 / ROUNDS, None)}
PRETRAINED = {"pretrain_epochs": (0.5, Pool.UNION), EPOCHS: (0.5, Pool.TRAIN)}


def risa(**options: Any) -> Arm:  # noqa: ANN401 - whatever the method takes
    """Return an arm of RISA's with some options changed."""
    return Arm("risa", {"rounds": ROUNDS, **options}, IN_ROUNDS)


def refitted(name: str, **options: Any) -> Options:  # noqa: ANN401 - whatever the imputer takes
    """Return options for an imputer that costs something to fit: it is fitted less often."""
    return {"impute": {"name": name, **options}, "refit_every": 80}


DIFFUSION = refitted("diffusion", steps=400)
MAIN: dict[str, Arm] = {
    "vanilla": Arm("vanilla", {}, ALIGNED),
    "local": Arm("local", {}, STEPS),
    "local_all": Arm("local_all", {}, STEPS),
    "advonly": Arm("advonly", {}, STEPS),
    "risa": risa(),
    "oracle": Arm("oracle", {}, ALIGNED),
}
EVERY, NONE = {"share_first": 1.0, "share_last": 1.0}, {"share_first": 0.0, "share_last": 0.0}
ABLATIONS: dict[str, Arm] = {
    "risa, trusted to .9": risa(least_precision=0.9, **EVERY),
    "risa, trusted to .8": risa(least_precision=0.8, **EVERY),
    "risa, trusted to .9, weight 1": risa(least_precision=0.9, publisher_weight=1.0, **EVERY),
    "risa, trusted to .9, regression": risa(least_precision=0.9, **EVERY, **refitted("regression")),
    "risa, heads not taught apart": Arm("risa", {"rounds": ROUNDS, "head_steps": 0}, UNTAUGHT),
    "risa, no publisher rows": risa(**NONE),
    "risa, all publisher rows": risa(**EVERY),
    "risa, confidence": risa(select_by="confidence"),
    "risa, entropy": risa(select_by="entropy"),
    "risa, per class": risa(per_class=True),
    "risa, soft weights": risa(soft=True, **EVERY),
    "risa, imputed party votes": risa(imputed_weight=1.0),
    "risa, imputed party votes, Dempster": risa(imputed_weight=1.0, fusion="dempster"),
    "risa, imputed party discounted": risa(imputed_weight=0.5),
    "risa, fused prediction": risa(predict="fused"),
    "risa, softplus": risa(activation="softplus"),
    "risa, log loss": risa(loss="log"),
    "risa, squared loss": risa(loss="mse"),
    "risa, labels unknown": risa(leftover_labels="unknown"),
    "risa, zero": risa(impute="zero"),
    "risa, class mean": risa(impute="class_mean"),
    "risa, knn": risa(impute="knn"),
    "risa, regression": risa(**refitted("regression")),
    "risa, cvae": risa(**refitted("cvae")),
    "risa, gan": risa(**refitted("gan")),
    "risa, diffusion": risa(**DIFFUSION),
    "advonly, regression": Arm("advonly", refitted("regression"), STEPS),
    "advonly, diffusion": Arm("advonly", DIFFUSION, STEPS),
}
WITHOUT: dict[str, Arm] = {
    "no publisher rows, heads not taught apart": Arm("risa", {"rounds": ROUNDS, "head_steps": 0, **NONE}, UNTAUGHT),
    "no publisher rows, heads taught apart alone": risa(evidence_weight=0.0, **NONE),
    "no publisher rows, no heads": Arm(
        "risa", {"rounds": ROUNDS, "head_steps": 0, "evidence_weight": 0.0, **NONE}, UNTAUGHT
    ),
    "no publisher rows, divergence 0": risa(divergence=0.0, **NONE),
}
"""What RISA does besides choosing publishers' rows, switch by switch: the heads' loss beside the top's, and rounds that
teach the heads on aligned rows alone."""

LITERAL: dict[str, Arm] = {
    "risa, literal": risa(imputed_weight=1.0, publisher_weight=1.0, activation="softplus"),
    "risa, literal, labels unknown": risa(
        imputed_weight=1.0, publisher_weight=1.0, activation="softplus", leftover_labels="unknown"
    ),
}
"""The abstract taken at its word: the imputed party's opinion is fused like any other and chosen rows weigh in full."""

CROSS_VIEW: dict[str, Arm] = {"fedcvt": Arm("fedcvt", {}, STEPS)}
"""The nearest to co-training where no unlabelled row has two real views: three classifiers, of each view and of both,
label rows whose other view is made up."""

FEDADS: dict[str, Arm] = {
    "heuristic": Arm("heuristic", {}, {"min_steps": (0.5, None)}),
    "ss_vfl": Arm("ss_vfl", {}, PRETRAINED),
    "vfl_mpd": Arm("vfl_mpd", {}, {"pretrain_epochs": (0.5, Pool.TRAIN), EPOCHS: (0.5, Pool.TRAIN)}),
    "fedhssl": Arm("fedhssl", {}, PRETRAINED),
    **CROSS_VIEW,
    "jpl": Arm("jpl", {}, {EPOCHS: (1.0, Pool.LABELLED)}),
    "diffu_at": Arm("diffu_at", {}, {"min_steps": (0.5, None)}),
    "diffu_at, cross-fitted": Arm("diffu_at", {"cross_fit": True}, {"min_steps": (0.5, None)}),
    "fedud": Arm("fedud", {}, {"warm_steps": (0.5, None), "min_steps": (0.5, None)}),
    "fedbcd": Arm("fedbcd", {"local_steps": 3}, {EPOCHS: (1 / 3, Pool.TRAIN)}),
    "fedbcd, sequential": Arm("fedbcd", {"local_steps": 3, "order": "sequential"}, {EPOCHS: (1 / 3, Pool.TRAIN)}),
    "celu": Arm("celu", {"local_steps": 3}, {EPOCHS: (1 / 3, Pool.TRAIN)}),
}
ONE_PASS: dict[str, Arm] = {"vanilla, one pass": Arm("vanilla", {}, {EPOCHS: (0.0, Pool.TRAIN)})}
"""As FedAds trains: once over the aligned rows."""

PUBLISHERS: dict[str, Arm] = {
    "risa, early": Arm("risa", {"rounds": ROUNDS}, EARLY),
    "risa, early, no publisher rows": Arm("risa", {"rounds": ROUNDS, **NONE}, EARLY),
    "risa, early, all publisher rows": Arm("risa", {"rounds": ROUNDS, "publisher_weight": 1.0, **EVERY}, EARLY),
}
"""RISA with a short warm-up: where few rows are labelled at all, a longer one overfits before any row is chosen."""

EARLY_CHOICES: dict[str, Arm] = {
    "risa, early, confidence": Arm("risa", {"rounds": ROUNDS, "select_by": "confidence"}, EARLY),
    "risa, early, all": Arm("risa", {"rounds": ROUNDS, **EVERY}, EARLY),
}
"""The same with other choices."""

FUSIONS: dict[str, Arm] = {
    "risa, symmetric": risa(fusion="yager_symmetric"),
    "risa, Dempster": risa(fusion="dempster"),
    "risa, imputed parties vote": risa(imputed_weight=1.0),
    "risa, imputed parties vote, symmetric": risa(imputed_weight=1.0, fusion="yager_symmetric"),
}
"""Rules of fusion where there are more than two opinions; RISA's own fuses pair by pair, in the parties' order."""

ARMS = {
    **MAIN,
    **ABLATIONS,
    **WITHOUT,
    **LITERAL,
    **FEDADS,
    **ONE_PASS,
    **PUBLISHERS,
    **EARLY_CHOICES,
    **FUSIONS,
}


@dataclass(frozen=True)
class Study:
    """One data set: `steps` a run, its `settings`, and arms by overlap, in the order in which they are wanted.

    `changed` holds options of single arms that only make sense on this data set.
    """

    settings: Options
    steps: int
    tiers: Sequence[tuple[Sequence[str], Sequence[float]]]
    seeds: int
    metric: str = "auc"
    changed: Mapping[str, Options] = field(default_factory=dict[str, Options])

    def cells(self) -> Iterator[list[Cell]]:
        """Yield the cells of each tier, seed by seed, `vanilla` first; the oracle has one overlap of its own."""
        for arms, overlaps in self.tiers:
            found: list[Cell] = []
            for seed in range(self.seeds):
                pairs = [(arm, 1.0 if arm == "oracle" else at) for at in overlaps for arm in arms]
                found += [(arm, overlap, seed) for arm, overlap in dict.fromkeys(pairs)]
            yield found


FEW, REST = (0.01, 0.05), (0.02, 0.1, 0.5)
RISA_TIERS = (
    (tuple(MAIN), FEW),
    (("vanilla", "local_all", "advonly", "risa"), REST),
    (tuple(ABLATIONS), FEW[1:]),
    (tuple(ABLATIONS), FEW[:1]),
    ((*WITHOUT, *CROSS_VIEW), FEW),
    (("risa, no publisher rows",), REST),
    ((*LITERAL, "risa, early", "risa, early, no publisher rows", *EARLY_CHOICES), FEW),
)
PICTURES = (
    "risa, trusted to .9",
    "risa, no publisher rows",
    "risa, fused prediction",
    "risa, regression",
    "risa, confidence",
    "risa, imputed party votes",
    "risa, labels unknown",
)
"""The ablations wanted first of pictures, where a run takes half a minute."""

PICTURE_TIERS = (
    *RISA_TIERS[:2],
    (PICTURES, FEW[:1]),
    (PICTURES, FEW[1:]),
    ((*WITHOUT, *LITERAL, *CROSS_VIEW), FEW[:1]),
    *RISA_TIERS[3:1:-1],
)
PUBLISHER_ARMS = (
    "vanilla",
    "advonly",
    "risa",
    "risa, no publisher rows",
    "risa, all publisher rows",
    *PUBLISHERS,
    "oracle",
)
FEDADS_TIERS = (((*MAIN, *FEDADS), (0.2,)), (tuple(ONE_PASS), (0.2,)))
FEDADS_MODEL = {
    "bottom": "fedads",
    "parties": {"publisher": {"embedding_dim": 32}, "advertiser": {"embedding_dim": 128}},
}
CONV = {"bottom": "conv", "embedding_dim": 64, "top": {"name": "mlp", "hidden": [64]}}
BY_ITEM = {"heuristic": {"key": "item_id"}}


def fedads(data: Options, steps: int, changed: Mapping[str, Options] | None = None, **settings: Any) -> Study:  # noqa: ANN401
    """Return a study of all FedAds methods: a fifth of the training rows aligned, the advertiser keeps the others."""
    given = {"data": data, "align": {"leftover": "advertiser"}, "model": FEDADS_MODEL, **settings}
    return Study(given, steps, FEDADS_TIERS, 5, changed=changed or {})


SIDE = range(8)
PIXELS = [f"px_{row}_{column}" for row in SIDE for column in SIDE]
QUARTERS = {owner: list(held) for owner, held in cut_pixels(PIXELS, len(SIDE), len(SIDE), "quadrants").items()}
"""A quarter of the digits' pixels each."""

STUDIES: dict[str, Study] = {
    "criteo": Study({"data": {"name": "criteo"}}, 300, RISA_TIERS, 5),
    "digits": Study({"data": {"name": "digits"}}, 480, RISA_TIERS, 5, "accuracy"),
    "quarters": Study(
        {"data": {"name": "digits"}, "split": QUARTERS},
        480,
        (((*MAIN, *FUSIONS, "risa, no publisher rows", *WITHOUT), (0.05, 0.2)),),
        5,
        "accuracy",
    ),
    "cifar10": Study(
        {
            "data": {"name": "cifar10", "rows": 20_000},
            "holdout": {"by": "official", "valid": 0.04},
            "train": {"batch_size": 128},
            "model": CONV,
        },
        450,
        PICTURE_TIERS,
        3,
        "accuracy",
    ),
    "publisher_synthetic": Study(
        {
            "data": {
                "name": "synthetic_ads",
                "rows": 10_000,
                "cvr": 0.3,
                "signal": {"publisher": 3.0, "advertiser": 0.2, "joint": 0.0},
            },
            "align": {"leftover": "publisher"},
        },
        300,
        ((PUBLISHER_ARMS, (0.03,)),),
        5,
    ),
    "fedads_criteo": fedads({"name": "criteo"}, 300),
    "fedads_alimama": fedads({"name": "alimama"}, 300, BY_ITEM, holdout={"by": "official"}),
    "fedads_synthetic": fedads(
        {"name": "synthetic_ads", "rows": 100_000}, 440, BY_ITEM, holdout={"test": 0.35, "valid": 0.1}
    ),
}
