"""The gradient-norm attack: rare labels get long gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from vfl.attacks import Guess, Needs
from vfl.attacks._scored import scorable
from vfl.transcript import AdversaryView
from vfl.types import Kind


@dataclass(frozen=True)
class Norm:
    """Scores each received gradient by its length: where positives are rare, theirs are the long ones.

    With a logistic loss |g_i| = |p_i - y_i| * |dz/dh|, which is near 1 for a rare class and near 0 for the other. The
    attacker is a publisher that knows which class is the rarer (`positives`), and nothing else; the sign of the score
    follows from that alone. Lengths are compared within a batch, so the factor 1/rows does not matter.

    Reference: O. Li, J. Sun, X. Yang, W. Gao, H. Zhang, J. Xie, V. Smith, C. Wang, Label Leakage and Protection in
    Two-party Split Learning, ICLR 2022, https://arxiv.org/abs/2102.08504

    The paper's code drops batches whose AUC is exactly 0; here the attack scores every row and drops nothing.
    """

    positives: Literal["minority", "majority"] = "minority"

    def __post_init__(self) -> None:
        if self.positives not in ("minority", "majority"):
            raise ValueError(
                f"positives: got {self.positives!r}, allowed 'minority' or 'majority'; ads have a minority"
            )

    @property
    def needs(self) -> Needs:
        """Received gradients, and no label."""
        return Needs(received=frozenset({Kind.GRADIENT}), binary_only=True)

    def infer(self, view: AdversaryView, rng: torch.Generator) -> Guess:
        """Return one score for each received gradient row that was not hinted; draws nothing from `rng`."""
        del rng
        seen = view.gradients()
        norms = seen.body.double().norm(dim=1)
        scores = norms if self.positives == "minority" else -norms
        kept = scorable(view, seen, self.needs.labelled_rows)
        return Guess("labels", seen.steps[kept], seen.rows[kept], scores[kept])
