"""What several advertisers' sides share: the bottom model they cannot do without, and an update of all they own."""

from __future__ import annotations

from torch import nn
from torch.optim import Optimizer

from vfl.errors import ConfigError
from vfl.exchange import NOTHING, Mail, Outgoing
from vfl.types import Step


def needed(bottom: nn.Module | None) -> nn.Module:
    """Return the advertiser's bottom model; raises `ConfigError` where it has none, as it has no columns."""
    if bottom is None:
        message = "got an advertiser without columns, allowed one with columns of its own for this method"
        raise ConfigError(f"{message}; choose another method", key="method.name")
    return bottom


class OneUpdate:
    """The ends of a round in which one optimizer updates all networks of a side: `own` before it, `finish` after it.

    `loss` is what the round's backward pass left for the report.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer = optimizer
        self.loss = 0.0

    def own(self, step: Step, mail: Mail) -> Outgoing:
        """Clear the gradients of the last round."""
        self._optimizer.zero_grad()
        return NOTHING

    def finish(self, step: Step, mail: Mail) -> Outgoing:
        """Update all networks, and report the loss."""
        self._optimizer.step()
        return Outgoing(report={"loss": self.loss})
