"""The coordinator's control calls: which there are, what each brings, and when a party takes it.

They carry no envelope and are not on the transcript. Whoever coordinates makes them up, so each is read here before
anything is done about it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from flwr.app import ConfigRecord, RecordDict

from vfl.errors import WireError
from vfl.types import PartyId
from vfl.wire import CALL_KEY, CONTROL_KEY, mail

Given = Mapping[str, object]
"""What a control call brings."""

LONGEST_CALL, LAST_STEP = 64, 10**9 - 1
GREETINGS = ("hello", "meet")


def _count(value: object) -> bool:
    return type(value) is int and 0 <= value <= LAST_STEP


def _flag(value: object) -> bool:
    return type(value) is int and value in (0, 1)


def _text(value: object) -> bool:
    return isinstance(value, str)


FIELDS: dict[str, dict[str, tuple[Callable[[object], bool], str]]] = {
    "hello": {"fresh": (_flag, "0 or 1"), "absent": (_text, "a text")},
    "meet": {},
    "prepare": {},
    "checkpoint": {"step": (_count, f"a number from 0 to {LAST_STEP}")},
    "restore": {"step": (_count, f"a number from 0 to {LAST_STEP}")},
    "recall": {},
    "renew": {"phase": (_text, "a text"), "epoch": (_count, f"a number from 0 to {LAST_STEP}")},
    "finish_run": {},
}
"""What each call brings beside its id, and what is allowed there; `meet` brings greetings, by whoever sent them."""
CONTROLS = tuple(FIELDS)
BEGIN = frozenset({"prepare", "restore"})
"""Calls that a party takes once after a greeting; all others but greetings it takes only after one of them."""


def read_call(party: PartyId, name: str, content: RecordDict) -> tuple[str, Given]:
    """Return the id of a control call and what it brings; raises `WireError` where it is malformed."""
    if envelopes := mail(content):
        raise WireError(f"{party} got envelope {next(iter(envelopes))!r} with call {name}, allowed none")
    record = content.get(CONTROL_KEY)
    if not isinstance(record, ConfigRecord):
        raise WireError(f"{party} got call {name} without a record {CONTROL_KEY!r}; every call has one")
    call, given = record.get(CALL_KEY), {key: value for key, value in record.items() if key != CALL_KEY}
    if not isinstance(call, str) or not 0 < len(call) <= LONGEST_CALL:
        raise WireError(f"{party} got call {name} with an id that is no text of 1 to {LONGEST_CALL} characters")
    if name != "meet":
        _check_fields(party, name, given)
    return call, given


def check_turn(party: PartyId, name: str, prepared: bool) -> None:
    """Raise `WireError` for a control call that comes before the one it needs, or a second time."""
    if name not in GREETINGS and prepared == (name in BEGIN):
        when = "a second time; it takes it once after a greeting" if prepared else "before it has its rows"
        raise WireError(f"{party} got call {name} {when}")


def check_round(party: PartyId, phase: str, prepared: bool) -> None:
    """Raise `WireError` for a round of training or evaluation before a party has its rows, or of alignment after."""
    if prepared == (phase == "align"):
        raise WireError(f"{party} got a round of {phase!r} {'after' if prepared else 'before'} it has its rows")


def _check_fields(party: PartyId, name: str, given: Given) -> None:
    fields = FIELDS[name]
    if given.keys() != fields.keys():
        raise WireError(f"{party} got call {name} with {sorted(given)}, allowed exactly {sorted(fields)}")
    for field, (allows, told) in fields.items():
        if not allows(given[field]):
            raise WireError(f"{party} got call {name} with {field} {str(given[field])[:40]!r}, allowed {told}")
