"""What a command leaves on its two streams: one strict JSON object on stdout, one plain line an error on stderr."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from typing import Any

from vfl.errors import VflError


def strict(value: Any) -> Any:  # noqa: ANN401 - any value that a row may hold
    """Return plain JSON types: NaN and infinities become null, tuples lists, numpy scalars numbers."""
    if isinstance(value, Mapping):
        return {str(key): strict(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [strict(entry) for entry in value]
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return strict(value.item()) if hasattr(value, "item") else str(value)


def emit_json(value: object) -> None:
    """Write one JSON value to stdout."""
    sys.stdout.write(json.dumps(strict(value), indent=2, allow_nan=False) + "\n")


def emit_line(text: str) -> None:
    """Write one line to stderr, whatever line breaks the text has."""
    sys.stderr.write(f"vfl: {' '.join(text.split())}\n")


def emit_errors(error: VflError) -> None:
    """Write one line to stderr for each error that came together."""
    for each in getattr(error, "errors", (error,)):
        emit_line(str(each))
