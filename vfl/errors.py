"""The exception tree.

VflError
├── UserError        the person who started the run can mend it: one line, exit code 2
│   ├── ConfigError      a key or value of the configuration, or an option of a member
│   ├── DataError        a file, column or row
│   ├── RegistryError    a name that no member of a family has
│   └── ThreatError      an attack asks for more than the threat model grants
├── WireError        a message is malformed, tampered with, out of order, or not finite
│   └── IntegrityError   a well-formed message that a party's own defense refuses
├── PeekError        an attack reached for something outside its view
├── PartyError       a party failed: exit code 3
│   └── PartyGoneError   it died or stayed away, and may be brought back from its checkpoint
└── InterruptedRunError  the person who started the run stopped it: exit code 130
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class VflError(Exception):
    """Root of every error this project raises on purpose."""

    exit_code = 1


class UserError(VflError):
    """Something the person who started the run can mend.

    `where` names the file (`--set` for an override) and `key` the entry in it; both go in front of the message.
    """

    exit_code = 2

    def __init__(self, message: str, *, key: str = "", where: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.key = key
        self.where = where

    def __str__(self) -> str:
        return ": ".join(part for part in (self.where, self.key, self.message) if part)

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.message, self.key, self.where))

    def at(self, *, key: str = "", where: str = "") -> UserError:
        """Return the same error with the file or key filled in where it was not known deeper down."""
        return type(self)(self.message, key=self.key or key, where=self.where or where)


class ConfigError(UserError):
    """A key or value of the configuration, or an option of a member, is not allowed."""


class DataError(UserError):
    """A data file, column or row cannot be used."""


class RegistryError(UserError):
    """No member of a family has this name."""


class ThreatError(UserError):
    """An attack needs more than the threat model grants."""


class WireError(VflError):
    """A message is malformed, tampered with, out of order, or holds values that are not finite."""

    exit_code = 3


class IntegrityError(WireError):
    """A message is well-formed, but a defense of the party it reached takes it for an attack and refuses it."""


class PeekError(VflError):
    """An attack reached for something outside its view."""

    exit_code = 2


class PartyError(VflError):
    """A party failed or stayed away."""

    exit_code = 3


class PartyGoneError(PartyError):
    """A party died or stayed away: brought back, it can go on from its checkpoint."""

    def __init__(self, message: str, party: str = "") -> None:
        super().__init__(message)
        self.party = party

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self), (str(self), self.party))


class InterruptedRunError(VflError):
    """The person who started a run stopped it."""

    exit_code = 130


def _rebuild(kind: type[UserError], message: str, key: str, where: str) -> UserError:
    return kind(message, key=key, where=where)


def unknown_name(family: str, got: str, known: Iterable[str]) -> str:
    """Say that `got` names no `family`, with the nearest known name and all known ones."""
    names = sorted(known)
    near = get_close_matches(got, names, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"no {family} named {got!r}; {hint}(known: {', '.join(names)})"
