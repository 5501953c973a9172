"""Files that are there whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path


def write_whole(path: Path, content: bytes, *, sync: bool = True) -> None:
    """Write a file so that it is there whole or not at all: temporary name, fsync, rename.

    Without `sync` that holds where the process is killed, but not where the machine loses power before `to_disk`.
    """
    temporary = path.with_name(path.name + ".part")
    try:
        with temporary.open("wb") as stream:
            stream.write(content)
            stream.flush()
            if sync:
                os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)  # on a full disk it would keep what the next try needs
        raise


def to_disk(path: Path) -> None:
    """Return once a file is on disk."""
    with path.open("rb") as stream:
        os.fsync(stream.fileno())
