"""Direct label inference: where embeddings are logits, the gradient's negative coordinate is the label."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from vfl.attacks import Guess, Needs
from vfl.attacks._scored import scorable
from vfl.errors import ThreatError
from vfl.transcript import AdversaryView
from vfl.types import Kind


@dataclass(frozen=True)
class DirectLabelInference:
    """Names each row's class by the least coordinate of its gradient.

    Where the advertiser only adds the parties' embeddings into logits (`top: sum`), the gradient of the cross-entropy
    is softmax(z) - e_y: just one coordinate is negative, and it is the label's; with one logit for two classes the
    gradient is negative for class 1. So undefended it is right on every row. Under a top with weights nothing of this
    holds, and it is about as good as chance. The attacker is a publisher and knows no label.

    Reference: C. Fu, X. Zhang, S. Ji, J. Chen, J. Wu, S. Guo, J. Zhou, A. X. Liu, T. Wang, Label Inference Attacks
    Against Vertical Federated Learning, USENIX Security 2022,
    https://www.usenix.org/conference/usenixsecurity22/presentation/fu-chong

    The authors' code takes the first negative coordinate; the least is the same undefended, and defined under noise.
    """

    @property
    def needs(self) -> Needs:
        """Received gradients, and no label."""
        return Needs(received=frozenset({Kind.GRADIENT}))

    def infer(self, view: AdversaryView, rng: torch.Generator) -> Guess:
        """Return `(n, classes)` scores; raises `ThreatError` where a gradient is not as wide as the logits."""
        del rng
        seen = view.gradients()
        logits = 1 if view.classes == 2 else view.classes
        if seen.body.shape[1] % logits:
            message = f"got gradients {seen.body.shape[1]} wide, allowed as many as logits ({logits}) a party"
            raise ThreatError(f"{message}; it attacks runs with top: sum and embedding_dim={logits}", key="attack")
        gradient = seen.body[:, :logits].double()
        scores = torch.cat([gradient, -gradient], dim=1) if logits == 1 else -gradient
        kept = scorable(view, seen, 0)
        return Guess("labels", seen.steps[kept], seen.rows[kept], scores[kept])
