"""Ray's start beside the reading of the data: both take seconds, and neither needs the other."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

Found = TypeVar("Found")


@dataclass(slots=True)
class Started:
    """A Ray that is there for one run; `owns` says whether the run started it, and so is to stop it."""

    owns: bool = False

    def stop(self) -> None:
        """Stop it, once, if the run started it."""
        if self.owns:
            from parties.ray import stop_ray

            self.owns = False
            stop_ray()


def beside_ray(read: Callable[[], Found]) -> tuple[Found, Started]:
    """Return what `read` returns, and Ray, which was started meanwhile.

    Raises what `read` raises: without having started Ray where that is known by then, and stopping it otherwise.
    """
    started = Started()
    with ThreadPoolExecutor(1, thread_name_prefix="data") as thread:
        reading = thread.submit(read)
        from parties import ray  # a second or two by itself, in which most mistakes come out

        try:
            if not (reading.done() and reading.exception()):
                started.owns = ray.boot(None)
            return reading.result(), started
        except BaseException:
            started.stop()
            raise
