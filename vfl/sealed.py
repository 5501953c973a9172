"""A private value that refuses to be pickled, copied or printed, so that it cannot slip into a message or a log."""

from __future__ import annotations

from typing import Generic, NoReturn, TypeVar

T = TypeVar("T")


class Sealed(Generic[T]):
    """Holds a value of one party. Only `open()` gives it back; pickling, copying and printing do not.

    Label tensors live in a `Sealed` at the party that owns them, so an object graph that holds them cannot be sent
    to another process by accident.
    """

    __slots__ = ("_value",)

    def __init__(self, value: T) -> None:
        self._value = value

    def open(self) -> T:
        """Return the value; call it only in code that runs at the party that owns it."""
        return self._value

    def __repr__(self) -> str:
        return "Sealed(...)"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a Sealed value stays in its party's process: it cannot be pickled or copied")
