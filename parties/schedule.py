"""The rounds that a party takes part in: those of its own plan, each once, and in their order.

The coordinator hands out headers, and a party that obeyed any of them would answer whatever a header asks: a round of
one row, whose loss is that row's label, or more rounds than its accountant counted. So each party knows the phases of
the run from its own options, and how many rows it holds of each pool, and refuses every other header.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from vfl.coordinator import EVALUATION_BATCH
from vfl.errors import WireError
from vfl.types import Hop, PartyId, Phase, Pool, Role, Step

_START = (-1, -1, -1)


@dataclass(slots=True)
class Schedule:
    """What one party expects. `rows` is what it holds of pools, known once the rows are aligned.

    `keep` are the hops that only tell everyone to keep their weights. `place` is the last round of training that was
    taken part in: its phase, epoch and first row.
    """

    party: PartyId
    role: Role
    align: Sequence[Hop]
    phases: Sequence[Phase]
    evaluate: Sequence[Hop]
    keep: Sequence[Hop]
    rows: Mapping[str, float] = field(default_factory=dict[str, float])
    place: tuple[int, int, int] = _START
    at: int = -1
    _allowed: dict[str, tuple[int, frozenset[str]]] = field(init=False)
    _last: Step | None = None

    def __post_init__(self) -> None:
        """Note by name where a phase is among the phases and which hops it has: that is asked for every message."""
        self._allowed = {
            phase.name: (number, frozenset(hop.name for hop in phase.hops)) for number, phase in enumerate(self.phases)
        }

    def reset(self) -> None:
        """Begin again: the run does, or goes on from a checkpoint."""
        self.place, self.at, self._last = _START, -1, None

    def check(self, step: Step, names: Sequence[str]) -> None:
        """Raise `WireError` for a round that is not in the plan, is of another size, or is out of its order."""
        if step.phase == "align":
            return self._only(step, names, self.align)
        if step.phase in ("valid", "test"):
            if step.phase == "valid" and self._all(names, self.keep):
                return None
            self._only(step, names, self.evaluate)
            return self._check_evaluation(step)
        return self._check_training(step, names)

    def _check_evaluation(self, step: Step) -> None:
        held = self.rows.get(step.phase)
        if step.pool.value != step.phase or step.start % EVALUATION_BATCH or not 0 < step.size <= EVALUATION_BATCH:
            self._refuse(step, f"whole batches of {EVALUATION_BATCH} rows of its pool")
        if held is not None and step.size != min(EVALUATION_BATCH, int(held) - step.start):
            self._refuse(step, f"{EVALUATION_BATCH} of {int(held)} rows at a time, in order")

    def _check_training(self, step: Step, names: Sequence[str]) -> None:
        if step.phase not in self._allowed:
            known = ", ".join(self._allowed)
            raise WireError(f"{self.party} got phase {step.phase!r}, allowed {known}; it refuses the round")
        number, hops = self._allowed[step.phase]
        phase = self.phases[number]
        if not names or not hops.issuperset(names):
            self._only(step, names, phase.hops)
        if step is self._last:  # the header of a round's first message, read once for all of them
            return
        if step.pool != phase.pool or step.shuffle != phase.shuffle:
            self._refuse(step, f"pool {phase.pool.value}, shuffled {phase.shuffle}")
        self._check_share(step, phase)
        place = (number, step.epoch, step.start)
        if place < self.place or (place == self.place and step.index != self.at):
            self._refuse(step, "each round once, in the order of the plan")
        self.place, self.at, self._last = place, step.index, step

    def _check_share(self, step: Step, phase: Phase) -> None:
        """Refuse a round that is not the part of an epoch that this phase's batch size makes it."""
        least, exact = self._held(phase.pool)
        if step.of < max(least, 1) or (exact and step.of != least):
            self._refuse(step, f"epochs over {'' if exact else 'at least '}{least} rows")
        batches = -(-step.of // phase.batch_size)
        size, more = divmod(step.of, batches)
        longer = min(step.start // (size + 1), more)
        number = longer if longer < more else more + (step.start - more * (size + 1)) // size
        start, expected = number * size + min(number, more), size + (number < more)
        if (step.start, step.size) != (start, expected) or step.start >= step.of:
            self._refuse(step, f"batches of {size} or {size + 1} rows, one after another")
        if step.epoch * batches + number >= max(phase.epochs * batches, phase.min_steps):
            self._refuse(step, f"{phase.epochs} epochs and at least {phase.min_steps} rounds")

    def _held(self, pool: Pool) -> tuple[int, bool]:
        """Return how many rows of a pool this party holds or must be among others', and whether that is all of them."""
        train, own = int(self.rows.get("train", 0)), int(self.rows.get("only", 0))
        if not self.rows:
            return 0, False
        if pool == Pool.LEFTOVER:
            return (own if self.role == Role.PUBLISHER else 0), False
        if pool in (Pool.LABELLED, Pool.UNION):
            labelled = pool == Pool.LABELLED and self.role == Role.PUBLISHER
            return (train if labelled else train + own), pool == Pool.LABELLED and self.role == Role.ADVERTISER
        return int(self.rows.get(pool.value, train)), True

    def _only(self, step: Step, names: Sequence[str], hops: Sequence[Hop]) -> None:
        if not self._all(names, hops):
            self._refuse(step, f"the hops {', '.join(hop.name for hop in hops)}, not {'+'.join(names)}")

    def _all(self, names: Sequence[str], hops: Sequence[Hop]) -> bool:
        return bool(names) and {*names} <= {hop.name for hop in hops}

    def _refuse(self, step: Step, allowed: str) -> None:
        got = f"{step.phase} of {step.pool.value}, epoch {step.epoch}, rows {step.start} to {step.start + step.size}"
        raise WireError(f"{self.party} got step {step.index}: {got} of {step.of}; its own plan allows {allowed}")
