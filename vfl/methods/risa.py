"""Training on imputed rows that evidence theory calls certain enough."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from vfl.evidence import Activation, LossName, Rule
from vfl.methods import Desk, TrainOptions
from vfl.methods._publisher import ChosenRowsPublisher
from vfl.methods._risa_side import RisaAdvertiser
from vfl.methods.vanilla import EVALUATE
from vfl.types import Hop, Kind, Phase, Pool, Role

LEARN = (
    Hop("forward", Role.PUBLISHER, "forward", gives=Kind.EMBEDDING),
    Hop("own", Role.ADVERTISER, "own"),
    Hop("fuse", Role.ADVERTISER, "fuse", takes=("forward", "own"), gives=Kind.GRADIENT),
    Hop("finish", Role.ADVERTISER, "finish", takes=("fuse",)),
    Hop("backward", Role.PUBLISHER, "backward", takes=("fuse",)),
)
TEACH = (
    *LEARN[:2],
    Hop("teach", Role.ADVERTISER, "teach", takes=("forward", "own"), gives=Kind.GRADIENT),
    Hop("teach_finish", Role.ADVERTISER, "finish", takes=("teach",)),
    Hop("teach_backward", Role.PUBLISHER, "backward", takes=("teach",)),
)
ASSESS = (
    Hop("show", Role.PUBLISHER, "embed", gives=Kind.EMBEDDING),
    Hop("assess", Role.ADVERTISER, "assess", takes=("show",)),
)
ANNOUNCE = (
    Hop("announce", Role.ADVERTISER, "announce", gives=Kind.CONTROL),
    Hop("choose", Role.PUBLISHER, "choose", takes=("announce",)),
    Hop("note", Role.REFEREE, "note", takes=("announce",)),
)

MOST_ROUNDS = 1000


@dataclass(frozen=True)
class Risa:
    """Training on rows of one party only, imputed, where the parties' fused opinion of them is certain enough.

    After a warm-up on labelled rows, each of `rounds` rounds (1) teaches the evidence heads, and the bottoms under
    them, for `head_steps` steps on aligned rows alone, (2) has the publishers send embeddings of the rows only they
    hold, (3) imputes what other parties would have sent, forms an opinion of each party by its head, fuses them by
    `fusion` and takes the likeliest class for the label, (4) chooses a share of rows, growing from `share_first` to
    `share_last`, and (5) trains on aligned rows, on the advertiser's own rows and on the chosen ones. Publishers then
    send embeddings of their chosen rows beside the aligned ones and get gradients for both. Without (1) a publisher
    hears of labels only as often as its aligned rows come up among the advertiser's own: where few rows are aligned,
    too seldom to label others.

    With `least_precision` above 0 a round's share is what is left of rows whose score says that at least so many
    pseudo-labels are right: by the publisher's part alone of validation rows, whose labels the advertiser has.

    `select_by` scores and labels rows by the fused opinion, or by the top network's confidence or entropy, as is usual.
    `imputed_weight` is what an imputed party's opinion counts: 0 leaves it out, 1 lets it vote. `leftover_labels`
    says whether the advertiser has the labels of its own rows; rows with labels are always trained on, others are
    chosen as publishers' rows are. `publisher_weight` weighs a publisher's row in the loss, `soft` weighs it by its
    certainty besides. `predict: top` trains a fusing network beside the heads and predicts with it; `fused` predicts
    with the fused opinion and has no such network's loss. `evidence_weight` weighs the heads' loss beside the top's,
    `divergence` that of misleading evidence in it, reached over `anneal_steps`. A phase goes on until `warm_steps` or
    `round_steps` steps, however few rows an epoch has.

    Who learns what beyond vanilla: the advertiser sees embeddings of rows that only a publisher holds. A publisher
    learns, round by round, which of its own rows the advertiser's network is certain of, and gradients of their
    pseudo-labels: they can be attacked like labels. The referee, which no company plays, notes pseudo-labels.

    Reference: Y. Zeng, L. Liu, S. Liu, H. Dou, B. Wu, L. Liu, Reliable Imputed-Sample Assisted Vertical Federated
    Learning, 2025, https://arxiv.org/abs/2501.06429

    Only the paper's abstract and a summary could be read: mean imputation, self-training, evidential learning and
    reduced Yager fusion are from there. All else is our reconstruction: imputing at the cut layer and not of raw
    attributes, the losses and their weights, quantiles that grow, and the defaults, which leave an imputed party out
    of the fusion and trust known labels: read to the letter, the method does no better than training on aligned rows
    alone (docs/results/risa.md, `literal`).
    """

    impute: str | dict[str, Any] = "mean"
    rounds: int = 4
    warm_steps: int = 150
    round_steps: int = 80
    head_steps: int = 20
    share_first: float = 0.05
    share_last: float = 0.2
    per_class: bool = False
    select_by: Literal["uncertainty", "confidence", "entropy"] = "uncertainty"
    fusion: Rule = "yager"
    imputed_weight: float = 0.0
    leftover_labels: Literal["known", "unknown"] = "known"
    publisher_weight: float = 0.3
    soft: bool = False
    predict: Literal["top", "fused"] = "top"
    activation: Activation = "exp"
    loss: LossName = "digamma"
    evidence_weight: float = 1.0
    divergence: float = 0.01
    anneal_steps: int = 100
    refit_every: int = 25
    least_precision: float = 0.0

    evaluate: ClassVar[tuple[Hop, ...]] = EVALUATE

    def __post_init__(self) -> None:
        if min(self.warm_steps, self.round_steps, self.refit_every) < 1:
            raise ValueError("got warm_steps, round_steps or refit_every below 1, allowed 1 or more; raise it")
        if not 1 <= self.rounds <= MOST_ROUNDS:
            raise ValueError(f"got rounds={self.rounds}, allowed 1 to {MOST_ROUNDS}; change it")
        if min(self.head_steps, self.anneal_steps) < 0:
            raise ValueError("got head_steps or anneal_steps below 0, allowed 0 or more; raise it")
        if not 0 <= self.share_first <= self.share_last <= 1:
            shares = f"shares {self.share_first} to {self.share_last}"
            raise ValueError(f"got {shares}, allowed 0 <= share_first <= share_last <= 1; change one")
        if not (0 <= self.imputed_weight <= 1 and self.publisher_weight >= 0):
            raise ValueError("got imputed_weight outside 0 to 1 or publisher_weight below 0; change it")
        if not 0 <= self.least_precision <= 1:
            raise ValueError(f"got least_precision={self.least_precision}, allowed 0 to 1; write a share")
        if min(self.evidence_weight, self.divergence) < 0 or (self.predict == "fused" and not self.evidence_weight):
            raise ValueError(
                "got evidence_weight or divergence below 0, or heads that predict without a loss; raise it"
            )

    def phases(self, train: TrainOptions) -> tuple[Phase, ...]:
        """Return the warm-up, then teaching, assessing, announcing and learning by turns.

        `train.epochs` are shared out among the warm-up and the rounds' learning.
        """
        epochs, size = train.epochs // (self.rounds + 1), train.batch_size
        found = [Phase("learn_0", LEARN, epochs, size, Pool.LABELLED, min_steps=self.warm_steps)]
        for place in range(1, self.rounds + 1):
            if self.head_steps:
                found.append(Phase(f"teach_{place}", TEACH, 0, size, min_steps=self.head_steps))
            found += [
                Phase(f"assess_{place}", ASSESS, 1, size, Pool.LEFTOVER, validate=False, shuffle=False),
                Phase(f"announce_{place}", ANNOUNCE, 1, size, Pool.LEFTOVER, validate=False, shuffle=False),
                Phase(f"learn_{place}", LEARN, epochs, size, Pool.LABELLED, min_steps=self.round_steps),
            ]
        return tuple(found)

    def publisher(self, desk: Desk) -> ChosenRowsPublisher:
        """Return a publisher's side."""
        return ChosenRowsPublisher(desk)

    def advertiser(self, desk: Desk) -> RisaAdvertiser:
        """Return the advertiser's side."""
        return RisaAdvertiser(desk, self)
