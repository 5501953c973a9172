"""Several mistakes of one configuration, told together: a person mends them in one go."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import Any

from vfl.errors import ConfigError, UserError


class ConfigErrors(ConfigError):  # noqa: N818 - it is several errors, and says so
    """More than one mistake; `errors` holds them in the order of the file, and `str` gives one line each."""

    def __init__(self, errors: Sequence[UserError]) -> None:
        first = errors[0]
        super().__init__(first.message, key=first.key, where=first.where)
        self.errors = tuple(errors)

    def __str__(self) -> str:
        return "\n".join(map(str, self.errors))

    def __reduce__(self) -> tuple[object, ...]:
        return (ConfigErrors, (self.errors,))

    def at(self, *, key: str = "", where: str = "") -> ConfigErrors:
        """Return the same errors with the file or key filled in where it was not known deeper down."""
        return ConfigErrors([error.at(key=key, where=where) for error in self.errors])


def raise_all(errors: Sequence[UserError]) -> None:
    """Raise the only error as it is, several as one `ConfigErrors`, and nothing where there is none."""
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise ConfigErrors(errors)


def refusal(got: object, allowed: str, advice: str) -> str:
    """Say what was given, what may stand there and how to mend it: `got X, allowed Y; do Z`, on one line."""
    return f"got {shown(got)}, allowed {allowed}; {advice}"


def nearest(got: object, known: Sequence[str], otherwise: str) -> str:
    """Return the advice `did you mean 'X'?` where a known name is near, `otherwise` where none is."""
    near = get_close_matches(str(got), known, n=1)
    return f"did you mean {near[0]!r}?" if near else otherwise


def shown(value: Any) -> str:  # noqa: ANN401 - whatever a person typed
    """Return a value as its owner would write it: short, on one line, and in YAML's words."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    text = repr(list(value)) if isinstance(value, tuple) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def placed(error: UserError, where: Callable[[str], str]) -> UserError:
    """Return the same error, or errors, with the file of each key filled in where it was not known deeper down."""
    if isinstance(error, ConfigErrors):
        return ConfigErrors([placed(each, where) for each in error.errors])
    return error.at(where=where(error.key)) if error.key else error
