"""Evidence theory for classifiers: opinions, how they fuse, and the losses that teach a network to hold them.

An opinion on K classes is a belief in each, `(rows, K)`, and an uncertainty `(rows, 1)` that is what belief leaves:
they sum to 1. Evidence `e >= 0` stands for a Dirichlet of parameters `alpha = e + 1`, whose opinion is `e / S` and
`K / S` with `S` the sum of alpha.

Reference: A. Jøsang, Subjective Logic, Springer 2016; M. Sensoy, L. Kaplan, M. Kandemir, Evidential Deep Learning to
Quantify Classification Uncertainty, NeurIPS 2018, https://arxiv.org/abs/1806.01768; R. R. Yager, On the
Dempster-Shafer framework and new combination rules, Information Sciences 1987; Z. Han, C. Zhang, H. Fu, J. T. Zhou,
Trusted Multi-View Classification, ICLR 2021, https://arxiv.org/abs/2102.02051
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Activation = Literal["exp", "softplus"]
Rule = Literal["yager", "yager_symmetric", "dempster"]
LossName = Literal["digamma", "log", "mse"]
LARGEST_LOG_EVIDENCE = 10.0


@dataclass(frozen=True, slots=True)
class Opinion:
    """Belief in each class, `(rows, classes)`, and what it leaves uncertain, `(rows, 1)`; each row sums to 1."""

    belief: Tensor
    uncertainty: Tensor

    @property
    def alpha(self) -> Tensor:
        """The Dirichlet parameters this opinion stands for, `(rows, classes)`; infinite where nothing is uncertain."""
        classes = self.belief.shape[1]
        return self.belief * classes / self.uncertainty + 1

    @property
    def expected(self) -> Tensor:
        """The expected class probabilities, `(rows, classes)`: belief, and an equal share of the uncertainty each."""
        return self.belief + self.uncertainty / self.belief.shape[1]


def evidence(logits: Tensor, activation: Activation) -> Tensor:
    """Return the `(rows, classes)` evidence of a head's outputs; `exp` is cut off at e^10."""
    if activation == "softplus":
        return functional.softplus(logits)
    return torch.exp(logits.clamp_max(LARGEST_LOG_EVIDENCE))


def opinion(alpha: Tensor) -> Opinion:
    """Return the opinion of `(rows, classes)` Dirichlet parameters: beliefs (alpha - 1) / S, uncertainty K / S."""
    total = alpha.sum(dim=1, keepdim=True)
    return Opinion((alpha - 1) / total, alpha.shape[1] / total)


def vacuous(rows: int, classes: int) -> Opinion:
    """Return the opinion that knows nothing: no belief, uncertainty 1."""
    return Opinion(torch.zeros(rows, classes), torch.ones(rows, 1))


def discount(found: Opinion, weight: float | Tensor) -> Opinion:
    """Return an opinion trusted by `weight`, 0 (vacuous) to 1 (as it is): beliefs times weight, the rest uncertain.

    `(rows, 1)` weights discount each row by its own.
    """
    return Opinion(found.belief * weight, 1 - (1 - found.uncertainty) * weight)


def fuse(opinions: Sequence[Opinion], rule: Rule) -> Opinion:
    """Return the joint opinion of one or more parties on the same rows.

    `dempster` shares conflict out among the beliefs; `yager` counts it as uncertainty, two parties at a time in the
    order given, which matters from three on; `yager_symmetric` combines all at once, in no order.
    """
    if rule == "yager_symmetric":
        return yager_symmetric(opinions)
    return reduce(PAIRWISE[rule], opinions)


def yager(one: Opinion, two: Opinion) -> Opinion:
    """Return Yager's combination reduced to single classes: agreement is belief, conflict is uncertainty."""
    belief = _agreed(one, two)
    return Opinion(belief, _left(belief, one.uncertainty * two.uncertainty))


def dempster(one: Opinion, two: Opinion) -> Opinion:
    """Return Dempster's combination reduced to single classes: conflict is divided out.

    Two opinions that are certain of different classes contradict each other wholly and have no combination; rounding
    is kept from dividing by 0.
    """
    belief = _agreed(one, two)
    both = one.uncertainty * two.uncertainty
    left = (belief.sum(dim=1, keepdim=True) + both).clamp_min(1e-12)
    return Opinion(belief / left, both / left)


def yager_symmetric(opinions: Sequence[Opinion]) -> Opinion:
    """Return the combination of all parties at once: belief in k is the product of all (b_k + u), less that of all u.

    For two parties it is `yager`. For more, conflict between any two stays uncertain, so it is more cautious.
    """
    plausible = [each.belief + each.uncertainty for each in opinions]
    unsure = reduce(torch.mul, [each.uncertainty for each in opinions])
    belief = reduce(torch.mul, plausible) - unsure
    return Opinion(belief, _left(belief, unsure))


def _left(belief: Tensor, unsure: Tensor) -> Tensor:
    """Return what belief leaves uncertain: never less than what no party is sure of, which rounding would make it."""
    return torch.maximum(1 - belief.sum(dim=1, keepdim=True), unsure)


def _agreed(one: Opinion, two: Opinion) -> Tensor:
    return one.belief * two.belief + one.belief * two.uncertainty + two.belief * one.uncertainty


PAIRWISE: dict[Rule, Callable[[Opinion, Opinion], Opinion]] = {"yager": yager, "dempster": dempster}


def evidential_loss(alpha: Tensor, labels: Tensor, name: LossName, divergence: float) -> Tensor:
    """Return the `(rows,)` loss of Dirichlet parameters against classes, plus `divergence` times `misleading`."""
    shown = functional.one_hot(labels, alpha.shape[1]).to(alpha.dtype)
    found = LOSSES[name](alpha, shown)
    return found + divergence * misleading(alpha, shown) if divergence else found


def expected_cross_entropy(alpha: Tensor, shown: Tensor) -> Tensor:
    """Return the cross-entropy expected under the Dirichlet: the sum of y_k (digamma(S) - digamma(alpha_k))."""
    return (shown * (torch.digamma(alpha.sum(dim=1, keepdim=True)) - torch.digamma(alpha))).sum(dim=1)


def marginal_log_loss(alpha: Tensor, shown: Tensor) -> Tensor:
    """Return the log loss of the expected class: the sum of y_k (log S - log alpha_k)."""
    return (shown * (alpha.sum(dim=1, keepdim=True).log() - alpha.log())).sum(dim=1)


def expected_squared_error(alpha: Tensor, shown: Tensor) -> Tensor:
    """Return the squared error expected under the Dirichlet: that of its mean, and its variance."""
    total = alpha.sum(dim=1, keepdim=True)
    mean = alpha / total
    return ((shown - mean).square() + mean * (1 - mean) / (total + 1)).sum(dim=1)


def misleading(alpha: Tensor, shown: Tensor) -> Tensor:
    """Return the `(rows,)` divergence from knowing nothing of the evidence for wrong classes: KL(Dir(a~) || Dir(1)).

    a~ is alpha with the true class's evidence taken out.
    """
    left = shown + (1 - shown) * alpha
    total = left.sum(dim=1, keepdim=True)
    classes = torch.tensor(float(alpha.shape[1]), dtype=alpha.dtype)
    log_ratio = torch.lgamma(total[:, 0]) - torch.lgamma(classes) - torch.lgamma(left).sum(dim=1)
    return log_ratio + ((left - 1) * (torch.digamma(left) - torch.digamma(total))).sum(dim=1)


LOSSES: dict[LossName, Callable[[Tensor, Tensor], Tensor]] = {
    "digamma": expected_cross_entropy,
    "log": marginal_log_loss,
    "mse": expected_squared_error,
}
