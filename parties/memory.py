"""How much memory this process has held at most, and from when on that is counted."""

from __future__ import annotations

import resource
from contextlib import suppress
from pathlib import Path

OWN = Path("/proc/self")


def peak_rss_mb() -> float:
    """Return the most memory, MB, that this process held since it began, or since `forget_peak`."""
    with suppress(OSError):
        for line in (OWN / "status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def forget_peak() -> None:
    """Count the peak from now on, where the kernel can; a process that runs one trial after another begins anew.

    What it still holds of what came before counts as held.
    """
    with suppress(OSError):
        (OWN / "clear_refs").write_text("5", encoding="ascii")
