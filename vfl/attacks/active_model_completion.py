"""Active model completion: the publisher's optimizer is rigged so that the joint model leans on its embeddings."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from vfl.attacks import Guess, Needs
from vfl.attacks.model_completion import ModelCompletion
from vfl.transcript import AdversaryView

LARGEST = 5.0


@dataclass(frozen=True)
class ActiveModelCompletion:
    """Boosts the publisher's own updates in training, then completes its bottom as `model_completion` does.

    After each step of the publisher's optimizer, a coordinate that moved by u where it last moved by v moves by r u in
    all, r = 1 + `gamma` u / v clamped to 1 and 5: coordinates that keep their sign run ahead, so the top learns to rely
    on this publisher. All messages stay within the protocol. The head is linear, fitted on `labelled_rows` known rows
    for `steps` steps; controls are those of `model_completion`.

    Reference: C. Fu, X. Zhang, S. Ji, J. Chen, J. Wu, S. Guo, J. Zhou, A. X. Liu, T. Wang, Label Inference Attacks
    Against Vertical Federated Learning, USENIX Security 2022,
    https://www.usenix.org/conference/usenixsecurity22/presentation/fu-chong

    The authors rig SGD with momentum and, by writing in place, feed the boost back into the momentum. Here the boost
    multiplies the step that any optimizer took, and its momentum stays its own: a weaker boost.
    """

    labelled_rows: int = 40
    gamma: float = 1.0
    steps: int = 600

    def __post_init__(self) -> None:
        if not (math.isfinite(self.gamma) and self.gamma >= 0):
            raise ValueError(f"gamma: got {self.gamma}, allowed any number from 0; the paper has 1")
        self._completion()

    @property
    def needs(self) -> Needs:
        """The publisher's own columns and network, labelled rows, and a run that it trained in."""
        return Needs(own_features=True, own_models=True, labelled_rows=self.labelled_rows, active=True)

    def steer(self, optimizer: torch.optim.Optimizer) -> None:
        """Boost every step from now on."""
        before: dict[torch.Tensor, torch.Tensor] = {}

        def keep(optimizer: torch.optim.Optimizer, *_: object) -> None:
            for parameter in _parameters(optimizer):
                before[parameter] = parameter.detach().clone()

        def boost(optimizer: torch.optim.Optimizer, *_: object) -> None:
            with torch.no_grad():
                for parameter in _parameters(optimizer):
                    state, moved = optimizer.state[parameter], parameter - before[parameter]
                    last = state.get("moved", torch.zeros_like(moved))
                    ratio = torch.where(last == 0, torch.zeros_like(moved), moved / last)
                    state["moved"] = moved * (1 + self.gamma * ratio).clamp(1.0, LARGEST)
                    parameter.copy_(before[parameter] + state["moved"])

        optimizer.register_step_pre_hook(keep)
        optimizer.register_step_post_hook(boost)

    def infer(self, view: AdversaryView, rng: torch.Generator) -> Guess:
        """Return `(n, classes)` log probabilities of each aligned row that was not hinted."""
        return self._completion().infer(view, rng)

    def _completion(self) -> ModelCompletion:
        return ModelCompletion(labelled_rows=self.labelled_rows, steps=self.steps)


def _parameters(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    return [each for group in optimizer.param_groups for each in group["params"] if each.grad is not None]
