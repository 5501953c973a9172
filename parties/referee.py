"""The referee's node: it notes the order of the rows and the scores of the joint model, for after the run.

No company plays it. It alone can match handles to truth, so what it writes is outside every other party's folder.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from parties.party import Party, join
from parties.spec import PartySpec
from vfl import checkpoint
from vfl.exchange import NOTHING, Mail, Outgoing
from vfl.methods import Parts
from vfl.types import Pool, Step

ORDER_FILE = "order.safetensors"
SCORES_FILE = "scores.safetensors"


class Recorder:
    """The referee's player: collects, and writes when the run ends."""

    def __init__(self, spec: PartySpec) -> None:
        self._spec = spec
        self._order: Tensor | None = None
        self._scores: list[tuple[Tensor, Tensor]] = []

    def handler(self, name: str) -> Callable[[Step, Mail], Outgoing]:
        """Return `admit` or `collect`."""
        return {"admit": self.admit, "collect": self.collect}[name]

    def admit(self, step: Step, mail: Mail) -> Outgoing:
        """Note the shared rows of the advertiser's table and their pools by handle, `(shared, 2)`, and write them."""
        self._order = mail["advertiser"].body
        path = self._spec.path(ORDER_FILE)
        if path is not None:
            checkpoint.save(path, {"order": self._order}, {})
        return NOTHING

    def collect(self, step: Step, mail: Mail) -> Outgoing:
        """Note the class probabilities of test rows, `(rows, classes)`."""
        if step.pool == Pool.TEST:
            envelope = mail["advertiser"]
            self._scores.append((envelope.rows, envelope.body))
        return NOTHING

    def prepare(self) -> dict[str, float]:
        """Report nothing: the referee trains nothing here."""
        return {}

    def parts(self) -> Parts:
        """Return no parts."""
        return {}

    def loose(self) -> dict[str, Tensor]:
        """Return no tensors: the order is on disk and scores come only at the end."""
        return {}

    def resume(self, loose: Mapping[str, Tensor]) -> None:
        """Need nothing back."""

    def close(self) -> None:
        """Write the test scores by handle."""
        path = self._spec.path(SCORES_FILE)
        if path is None or not self._scores:
            return
        rows = torch.cat([rows for rows, _ in self._scores])
        scores = torch.cat([scores for _, scores in self._scores])
        checkpoint.save(path, {"rows": rows, "scores": scores}, {})


def referee(spec: PartySpec) -> Party:
    """Return the referee's node."""
    return join(spec, Recorder(spec))
