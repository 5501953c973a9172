"""A party's way in, after the inbox: its guards inspect what it received before anything is learned from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from parties.outbox import Mounted, Sender
from vfl.defenses import Defense, Guard, ReceiveContext, State, Verdict
from vfl.errors import IntegrityError
from vfl.types import Batch, Envelope, Kind, PartyId, Pool, Step

FLAGS_FILE = "flags.safetensors"
"""Which rows a party's guards flagged, in its own folder: `(n, 2)` steps and handles by PLACE.SENDER."""

_TOLD = "told"
_SEEN, _FLAGGED = "seen", "flagged"


@dataclass(slots=True)
class Posted:
    """A guard at its party: its place in the stack, and by sender what it carries and what it has found.

    Of what it found, `seen` `()` counts rows and `flagged` `(n, 2)` holds step and handle of each flagged row.
    """

    place: int
    guard: Guard
    states: dict[PartyId, State] = field(default_factory=dict[PartyId, State])
    found: dict[PartyId, State] = field(default_factory=dict[PartyId, State])

    @property
    def sends(self) -> bool:
        """Whether it also acts on what its party sends."""
        return isinstance(self.guard, Defense)

    def note(self, envelope: Envelope, flagged: Tensor) -> None:
        """Add an inspected message to what was found of its sender."""
        known = self.found.get(envelope.src) or {_SEEN: torch.zeros((), dtype=torch.int64), _FLAGGED: _no_flags()}
        rows = envelope.rows[flagged]
        added = torch.stack([torch.full_like(rows, envelope.step), rows], dim=1)
        self.found[envelope.src] = {
            _SEEN: known[_SEEN] + len(flagged),
            _FLAGGED: torch.cat([known[_FLAGGED], added]),
        }


@dataclass(slots=True)
class Gate:
    """All guards of one party.

    `own` gives its own rows of some handles, where it holds them all; `sent` what each party was sent last; `known`
    the rows of a party's columns that an attack is granted.
    """

    me: Sender
    posted: list[Posted]
    own: Callable[[Step, Tensor], Batch | None]
    sent: Mapping[PartyId, Envelope]
    known: Callable[[PartyId], Batch | None]

    def pass_on(self, step: Step, received: Sequence[Envelope]) -> list[Envelope]:
        """Return the messages as they are used. Raises `IntegrityError` where a guard refuses one."""
        passed = list(received)
        for posted in self.posted:
            came = list(passed)
            for at, envelope in enumerate(came):
                if envelope.kind in posted.guard.receives:
                    passed[at] = self._inspected(posted, step, envelope, came)
        return passed

    def report(self) -> dict[str, list[int]]:
        """Return what each guard found of each sender: rows seen, rows flagged, and the first step of a flag or -1."""
        return {
            f"guard/{posted.place}/{src}": [
                int(found[_SEEN]),
                len(found[_FLAGGED]),
                int(found[_FLAGGED][0, 0]) if len(found[_FLAGGED]) else -1,
            ]
            for posted in self.posted
            for src, found in posted.found.items()
        }

    def flags(self) -> dict[str, Tensor]:
        """Return the `(n, 2)` steps and handles of flagged rows by PLACE.SENDER."""
        return {
            f"{posted.place}.{src}": found[_FLAGGED] for posted in self.posted for src, found in posted.found.items()
        }

    def loose(self) -> dict[str, Tensor]:
        """Return what a checkpoint must hold of the guards; the state of one that also sends is with the outbox."""
        return {
            f"{posted.place}.{part}.{src}.{name}": value
            for posted in self.posted
            for part, by_sender in ((_TOLD, {} if posted.sends else posted.states), ("found", posted.found))
            for src, state in by_sender.items()
            for name, value in state.items()
        }

    def resume(self, loose: Mapping[str, Tensor]) -> None:
        """Take back what `loose` gave."""
        posted = {str(each.place): each for each in self.posted}
        for key, value in loose.items():
            place, part, src, name = key.split(".", 3)
            by_sender = posted[place].states if part == _TOLD else posted[place].found
            by_sender.setdefault(src, {})[name] = value

    def _inspected(self, posted: Posted, step: Step, envelope: Envelope, came: Sequence[Envelope]) -> Envelope:
        guard, src = posted.guard, envelope.src
        state = posted.states.get(src) or guard.init()
        verdict, posted.states[src] = guard.inspect(envelope.body, state, self._context(posted, step, envelope, came))
        flagged = verdict.flagged
        posted.note(envelope, flagged)
        if not bool(flagged.any()) or guard.act == "report":
            return envelope
        if guard.act == "refuse":
            raise IntegrityError(_refusal(self.me.party, guard, envelope, verdict))
        return replace(envelope, body=torch.where(flagged[:, None], verdict.repaired, envelope.body))

    def _context(self, posted: Posted, step: Step, envelope: Envelope, came: Sequence[Envelope]) -> ReceiveContext:
        about = self.sent.get(envelope.src)
        answers = about is not None and about.step == step.index and torch.equal(about.rows, envelope.rows)
        return ReceiveContext(
            envelope=envelope,
            learning=step.pool not in (Pool.VALID, Pool.TEST),
            generator=self.me.seeds.torch("defense", posted.place, "receive", envelope.src, step.index),
            classes=self.me.classes,
            batch=self.own(step, envelope.rows),
            beside={other.src: other.body for other in came if _beside(other, envelope)},
            sent=about.body if about is not None and answers else None,
            known=self.known(envelope.src) if hasattr(posted.guard, "infer") else None,
        )


def gate(
    me: Sender,
    mounted: Sequence[Mounted],
    own: Callable[[Step, Tensor], Batch | None],
    sent: Mapping[PartyId, Envelope],
    known: Callable[[PartyId], Batch | None] = lambda party: None,
) -> Gate:
    """Return a party's gate, with those of its defenses that inspect; one that also sends keeps one state for both."""
    posted = [
        Posted(place, each.defense, each.states if isinstance(each.defense, Defense) else {})
        for place, each in enumerate(mounted)
        if isinstance(each.defense, Guard)
    ]
    return Gate(me, posted, own, sent, known)


def _beside(other: Envelope, envelope: Envelope) -> bool:
    same = other.kind == envelope.kind and other.src != envelope.src
    return same and torch.equal(other.rows, envelope.rows)


def _refusal(party: PartyId, guard: Guard, envelope: Envelope, verdict: Verdict) -> str:
    name = type(guard).__module__.rpartition(".")[2]
    bad = f"{int(verdict.flagged.sum())} of {len(verdict.flagged)} rows"
    what = "gradient" if envelope.kind == Kind.GRADIENT else envelope.kind.value
    return (
        f"{party} refuses the {what} of {envelope.src} at step {envelope.step}: {name} flags {bad}; "
        f"find out what {envelope.src} sends, or set act: report to go on"
    )


def _no_flags() -> Tensor:
    return torch.empty((0, 2), dtype=torch.int64)
