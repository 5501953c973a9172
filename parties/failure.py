"""What others are told when a party fails: where and of what kind, without a value of its data.

A traceback may quote cells, ids or tensors of the party it comes from. What leaves the party is the kind of the error,
the places in the code, and its text with everything quoted and every number struck out. A refused data file is named
with its rows and cells on purpose: in a deployment that is for the party's own log, and others are told it scrubbed.
"""

from __future__ import annotations

import re
import sys
import traceback
from pathlib import Path

from vfl.errors import DataError, PartyError, VflError

_FRAMES = 4
_LONGEST = 300
_VALUES = re.compile(r"'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"|`[^`]*`|[^\s'\"]*\d[^\s'\"]*|[^\s'\"]*@[^\s'\"]*")

_LIBRARY = re.compile(r"\(.*\)", re.DOTALL)
"""What a library said of a file, which may quote its rows without quotation marks."""


def scrub(text: str) -> str:
    """Return a text on one line without what may be data: quotations, numbers and addresses become `…`."""
    return _VALUES.sub("…", " ".join(text.split()))[:_LONGEST]


def failed(party: str, action: str, error: Exception) -> PartyError:
    """Return the error that leaves a party in place of one that it did not raise on purpose."""
    frames = traceback.extract_tb(error.__traceback__)[-_FRAMES:]
    places = " < ".join(f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in reversed(frames))
    text = scrub(str(error.strerror or error) if isinstance(error, OSError) else str(error))
    return PartyError(f"{party} failed in {action}: {type(error).__name__}: {text} (at {places})")


def reason(error: VflError) -> str:
    """Return the kind and text of an error as whoever coordinates a deployment is told it."""
    if isinstance(error, DataError):
        sys.stderr.write(f"vfl: {error}\n")
        told = scrub(_LIBRARY.sub("(…)", str(error)))
        return f"{type(error).__name__}: {told} (the party's own log says where)"
    return f"{type(error).__name__}: {error}"
