"""Error feedback for lossy codecs: what the wire takes from a row is added to that row when it is sent again.

So what a row has lost never grows beyond one rounding, and over the epochs a receiver gets the sum of what was meant.
The idea is that of F. Seide et al., 1-bit stochastic gradient descent and its application to data-parallel distributed
training of speech DNNs, Interspeech 2014, who keep the error of each weight's gradient; here each row sent has its own.
It comes after a party's defenses and uses nothing but what they released, so what they guarantee stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from parties.rows import LEFTOVER_STRIDE
from vfl.types import Envelope

_Place = tuple[str, Tensor, Tensor]


@dataclass(slots=True)
class Feedback:
    """What one party's bodies have lost on the wire, by kind, destination and block of handles: `(handles, width)`.

    A block is as long as the stride between the parties' own handles, and grows with the greatest handle seen in it.
    """

    lost: dict[str, Tensor] = field(default_factory=dict[str, Tensor])

    def corrected(self, envelope: Envelope) -> Envelope:
        """Return the envelope with what its rows have lost so far added to its body."""
        body = envelope.body.detach().clone()
        for name, here, places in _places(envelope):
            body[here] += self._table(name, places, body)[places]
        return replace(envelope, body=body)

    def note(self, corrected: Envelope, arrived: Tensor) -> None:
        """Note what a corrected body has lost: `arrived`, `(rows, width)`, is what its receiver decodes."""
        missing = corrected.body - arrived
        for name, here, places in _places(corrected):
            self._table(name, places, missing)[places] = missing[here]

    def resume(self, lost: Mapping[str, Tensor]) -> None:
        """Take back what `lost` was."""
        self.lost = dict(lost)

    def _table(self, name: str, places: Tensor, body: Tensor) -> Tensor:
        length, width = int(places.max()) + 1, body.shape[1]
        table = self.lost.get(name)
        if table is None or table.shape[1] != width:
            table = self.lost[name] = torch.zeros(length, width)
        if len(table) < length:
            table = self.lost[name] = torch.cat([table, torch.zeros(length - len(table), width)])
        return table


def _places(envelope: Envelope) -> Iterator[_Place]:
    """Yield each table that an envelope's rows are in, which of its rows those are, and their places in it."""
    block = torch.div(envelope.rows, LEFTOVER_STRIDE, rounding_mode="floor")
    for number in block.unique().tolist():
        here = (block == number).nonzero()[:, 0]
        yield f"{envelope.kind.value}.{envelope.dst}.{number}", here, envelope.rows[here] - number * LEFTOVER_STRIDE
