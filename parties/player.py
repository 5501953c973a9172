"""What a role adds to a party: its rows and networks, and the handlers of its hops."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from torch import Tensor

from vfl.exchange import Mail, Outgoing
from vfl.methods import Parts
from vfl.types import Batch, Step


class Player(Protocol):
    """What a role adds: the handlers of its hops, its counts, and the state that a checkpoint must hold."""

    def handler(self, name: str) -> Callable[[Step, Mail], Outgoing]:
        """Return the handler that a hop of this role names."""
        ...

    def prepare(self) -> dict[str, float]:
        """Load rows and build networks once the rows are aligned, and report counts."""
        ...

    def parts(self) -> Parts:
        """Return the modules and optimizers of this party."""
        ...

    def loose(self) -> dict[str, Tensor]:
        """Return tensors beside the parts that a checkpoint must hold."""
        ...

    def resume(self, loose: Mapping[str, Tensor]) -> None:
        """Take back what `loose` gave, before `prepare` is called."""
        ...

    def expected(self, step: Step) -> int | None:
        """Return how many aligned rows a step is about; `None` where this role does not know."""
        ...

    def batch(self, step: Step) -> Batch:
        """Return this party's rows of a step; the referee has none."""
        ...

    def close(self) -> None:
        """Write what this role leaves behind for after the run."""
        ...
