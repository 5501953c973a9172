"""The referee's node: it notes the order of the rows and the scores of the joint model, for after the run.

No company plays it. It alone can match handles to truth, so what it writes is outside every other party's folder.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from parties.joining import join
from parties.party import Party
from parties.spec import PartySpec
from vfl import checkpoint
from vfl.errors import WireError
from vfl.exchange import NOTHING, Mail, Outgoing
from vfl.methods import Parts
from vfl.types import Batch, Pool, Step

ORDER_FILE = "order.safetensors"
SCORES_FILE = "scores.safetensors"
NOTES_FILE = "notes.safetensors"


class Recorder:
    """The referee's player: collects, and writes when the run ends."""

    def __init__(self, spec: PartySpec) -> None:
        self._spec = spec
        self._order: Tensor | None = None
        self._scores: list[tuple[Tensor, Tensor]] = []
        self._notes: list[Tensor] = []

    def handler(self, name: str) -> Callable[[Step, Mail], Outgoing]:
        """Return `admit`, `collect` or `note`."""
        return {"admit": self.admit, "collect": self.collect, "note": self.note}[name]

    def admit(self, step: Step, mail: Mail) -> Outgoing:
        """Note the shared rows of the advertiser's table and their pools by handle, `(shared, 2)`, and write them."""
        self._order = mail["advertiser"].body
        if self._order.dtype != torch.int64 or self._order.shape[1] != 2:
            got = f"an order of shape {tuple(self._order.shape)} and type {self._order.dtype}"
            raise WireError(f"referee got {got}, allowed two columns of int64; the advertiser is not what it says")
        path = self._spec.path(ORDER_FILE)
        if path is not None:
            checkpoint.save(path, {"order": self._order}, {})
        return NOTHING

    def collect(self, step: Step, mail: Mail) -> Outgoing:
        """Note the class probabilities of test rows, `(rows, classes)`."""
        if step.pool == Pool.TEST:
            envelope = mail["advertiser"]
            if not envelope.body.is_floating_point() or envelope.body.shape[1] != self._spec.classes:
                got = f"scores of shape {tuple(envelope.body.shape)} and type {envelope.body.dtype}"
                raise WireError(f"referee got {got}, allowed one column a class, {self._spec.classes}")
            self._scores.append((envelope.rows, envelope.body))
        return NOTHING

    def note(self, step: Step, mail: Mail) -> Outgoing:
        """Note pseudo-labels of leftover rows, `(rows, 2)`: a class, and 1 where trained on; the last round stays."""
        envelope = mail["advertiser"]
        if step.start == 0:
            self._notes = []
        self._notes.append(torch.cat([envelope.rows[:, None], envelope.body.to(torch.int64)], dim=1))
        return NOTHING

    def prepare(self) -> dict[str, float]:
        """Report nothing: the referee trains nothing here."""
        return {}

    def expected(self, step: Step) -> int | None:
        """Return nothing: the referee has no rows."""
        return None

    def batch(self, step: Step) -> Batch:
        """Refuse: the referee has no rows."""
        raise PermissionError("the referee has no rows of a step")

    def parts(self) -> Parts:
        """Return no parts."""
        return {}

    def loose(self) -> dict[str, Tensor]:
        """Return the notes and the scores; the order is on disk."""
        notes = {"notes": torch.cat(self._notes)} if self._notes else {}
        rows, scores = [rows for rows, _ in self._scores], [scores for _, scores in self._scores]
        return {**notes, "rows": torch.cat(rows), "scores": torch.cat(scores)} if scores else notes

    def resume(self, loose: Mapping[str, Tensor]) -> None:
        """Take the notes and the scores back."""
        self._notes = [loose["notes"]] if "notes" in loose else []
        self._scores = [(loose["rows"], loose["scores"])] if "scores" in loose else []

    def close(self) -> None:
        """Write the test scores and the last pseudo-labels, by handle."""
        noted = self._spec.path(NOTES_FILE)
        if noted is not None and self._notes:
            rows, classes, selected = torch.cat(self._notes).unbind(dim=1)
            tensors = {"rows": rows, "classes": classes, "selected": selected}
            checkpoint.save(noted, {name: value.contiguous() for name, value in tensors.items()}, {})
        path = self._spec.path(SCORES_FILE)
        if path is None or not self._scores:
            return
        rows = torch.cat([rows for rows, _ in self._scores])
        scores = torch.cat([scores for _, scores in self._scores])
        checkpoint.save(path, {"rows": rows, "scores": scores}, {})


def referee(spec: PartySpec) -> Party:
    """Return the referee's node."""
    return join(spec, Recorder(spec))
