"""A backward pass as torch runs it, without what torch looks up around it: a third of its fixed cost."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import Variable

_ENGINE = Variable._execution_engine  # pyright: ignore[reportPrivateUsage, reportUnknownMemberType, reportUnknownVariableType, reportAttributeAccessIssue] - what `Tensor.backward` calls in the end


def backward(output: Tensor, gradient: Tensor | None = None) -> None:
    """Add to the leaves' gradients as `output.backward(gradient)` does; a loss, `()`, needs no gradient.

    Raises `RuntimeError` for a gradient of another shape, and where there is no graph.
    """
    start = torch.ones_like(output) if gradient is None else gradient
    if start.shape != output.shape:  # the engine itself would sum a wider one
        raise RuntimeError(f"got a gradient of shape {tuple(start.shape)}, allowed {tuple(output.shape)}")
    _ENGINE.run_backward((output,), (start,), False, False, (), allow_unreachable=True, accumulate_grad=True)  # pyright: ignore[reportUnknownMemberType] - untyped
