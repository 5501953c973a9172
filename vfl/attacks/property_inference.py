"""Property inference: the share of positives in each batch, from the mean of its gradients."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from vfl.attacks import Guess, Needs
from vfl.errors import ThreatError
from vfl.transcript import AdversaryView
from vfl.types import Kind


@dataclass(frozen=True)
class PropertyInference:
    """Guesses each batch's share of positives from its mean gradient alone.

    Under a logistic loss the mean gradient is the mean of (p_i - y_i) dz/dh, so a batch with more positives pulls it
    one way. The attacker is a publisher that knows the class prior: it takes the direction in which gradients vary
    most, turned so that as many rows pull up as are positive, the longest pull (99 % quantile) as that of a certain
    mistake, and reads the excess of positives over the prior off the batch mean. It is what per-batch aggregation,
    encrypted or averaged, leaves to be seen.

    The estimator is ours; that gradients' means follow the label shares is folklore of the logistic loss.
    """

    @property
    def needs(self) -> Needs:
        """Received gradients and the class prior."""
        return Needs(received=frozenset({Kind.GRADIENT}), prior=True, binary_only=True)

    def infer(self, view: AdversaryView, rng: torch.Generator) -> Guess:
        """Return the guessed share of class 1, `(n,)`, the same for all rows of a batch."""
        del rng
        if view.hints.prior is None:
            raise ThreatError("needs the class prior; set threat.hints.prior=true", key="threat.hints.prior")
        seen = view.gradients().unscaled()
        body, prior = seen.body.double(), float(view.hints.prior[1])
        pull = body @ torch.linalg.eigh(body.T @ body).eigenvectors[:, -1]
        up = float((pull > 0).double().mean())
        pull = pull if abs(up - prior) <= abs(1 - up - prior) else -pull
        longest = pull.abs().sort().values[int(0.99 * (len(pull) - 1))].clamp(min=1e-30)
        _, batch, sizes = torch.unique_consecutive(seen.steps, return_inverse=True, return_counts=True)
        means = torch.zeros(len(sizes), dtype=torch.float64).index_add_(0, batch, pull) / sizes
        shares = (prior + (means - means.mean()) / longest).clamp(0, 1)
        return Guess("proportion", seen.steps, seen.rows, shares[batch])
