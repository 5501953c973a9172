"""Where data files are: as configured, as the environment says, or the folder that `vfl data fetch` fills."""

from __future__ import annotations

import os
from pathlib import Path


def data_root(configured: str | None = None) -> Path:
    """Return the folder of data files: `data.root`, else `VFL_DATA`, else `vfl-platform` in the user's cache."""
    found = configured or os.environ.get("VFL_DATA")
    if found:
        return Path(found).absolute()
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "vfl-platform" / "data"
