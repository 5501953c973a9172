"""Adam as torch computes it, without what torch looks up anew at each step: half of the cost at small batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from inspect import unwrap
from typing import Any

import torch
from torch import Tensor, nn

_TORCHS = unwrap(torch.optim.Adam.step)
"""Torch's own step without the wrapper that calls hooks, which torch puts around it once an optimizer is made."""


@dataclass(frozen=True, slots=True)
class _Gathered:
    """The lists that the fused kernel takes. Parameters that stepped equally often share one count, `()`, in `own`."""

    parameters: list[Tensor]
    exp_avgs: list[Tensor]
    exp_avg_sqs: list[Tensor]
    counts: list[Tensor]
    own: list[Tensor]


class Adam(torch.optim.Adam):
    """`torch.optim.Adam(parameters, lr=lr, fused=True)`, the same to the bit, hooks and checkpoints included.

    Its step calls torch's fused kernel on lists that are gathered once. Where a parameter has no gradient, until every
    one has had its first, and after the state of one was taken out, the step is torch's own.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float) -> None:
        """Optimize these dense parameters of one device."""
        self._gathered: _Gathered | None = None
        super().__init__(list(parameters), lr=lr, fused=True)

    def step(self, closure: Callable[[], Any] | None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] - torch types it by overloads
        """Update every parameter that has a gradient; `closure` must be `None`."""
        if closure is not None:
            raise ValueError("got a closure, allowed none; compute the gradients before the step")
        for before in self._optimizer_step_pre_hooks.values():
            before(self, (), {})
        self._step()
        for after in self._optimizer_step_post_hooks.values():
            after(self, (), {})

    step.hooked = True  # pyright: ignore[reportFunctionMemberAccess] - or torch wraps it, to call hooks and tell a profiler

    def _step(self) -> None:
        (group,) = self.param_groups
        gradients = [parameter.grad for parameter in group["params"]]
        whole = len(self.state) == len(gradients) and all(gradient is not None for gradient in gradients)
        found = (self._gathered or self._gather(group["params"])) if whole else None
        if found is None:
            self._scatter()
            with torch.no_grad():
                _TORCHS(self)
            return
        beta1, beta2 = group["betas"]
        with torch.no_grad():
            torch._foreach_add_(found.own, 1)  # pyright: ignore[reportPrivateImportUsage, reportPrivateUsage] - as torch counts
            torch._fused_adam_(  # pyright: ignore[reportPrivateImportUsage, reportPrivateUsage] - the kernel of `fused=True`; torch names it so
                found.parameters,
                gradients,
                found.exp_avgs,
                found.exp_avg_sqs,
                [],
                found.counts,
                amsgrad=False,
                lr=group["lr"],
                beta1=beta1,
                beta2=beta2,
                weight_decay=group["weight_decay"],
                eps=group["eps"],
                maximize=group["maximize"],
            )

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop all gradients; `set_to_none` `False` is torch's own, which fills them with zeros."""
        if not set_to_none:
            super().zero_grad(set_to_none=False)
            return
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self._gathered = None
        super().load_state_dict(state_dict)

    def _gather(self, parameters: list[Tensor]) -> _Gathered | None:
        """Return the kernel's lists, if every parameter has stepped before; equal counts become one from now."""
        states = [self.state[parameter] for parameter in parameters]
        if not all(states):
            return None
        counts: dict[float, Tensor] = {}
        for state in states:
            state["step"] = counts.setdefault(float(state["step"]), state["step"])
        averages, squares = [state["exp_avg"] for state in states], [state["exp_avg_sq"] for state in states]
        shared = [state["step"] for state in states]
        self._gathered = _Gathered(parameters, averages, squares, shared, list(counts.values()))
        return self._gathered

    def _scatter(self) -> None:
        """Give every parameter a count of its own again, for torch's own step adds to each."""
        self._gathered = None
        for state in self.state.values():
            if "step" in state:
                state["step"] = state["step"].clone()
