"""Named random streams; the only module that makes a generator.

A stream is found by its name and nothing else, so adding a component moves no other stream.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch


@dataclass(frozen=True, slots=True)
class Seeds:
    """A root of named streams. `at("publisher_1", "defense", 0, step)` gives that stream's 63-bit seed.

    A party is given `scope(party)`, from which no other party's stream can be computed, and `scope("shared")`,
    which all parties hold (batch order, run handles). An attack's view holds neither. That holds as long as the root
    is not known: whoever knows the number that a simulation starts from knows all its streams, its secrets included.
    """

    root: int | bytes

    def at(self, *name: str | int) -> int:
        """Return the seed of the stream called `name`, between 0 and 2**63 - 1."""
        return int.from_bytes(self._digest(name)[:8], "little") >> 1

    def scope(self, *name: str | int) -> Seeds:
        """Return a new root that reveals nothing of this one (SHA-256 preimage) or of its other scopes."""
        return Seeds(self._digest(("scope", *name)))

    def torch(self, *name: str | int) -> torch.Generator:
        """Return a fresh CPU torch generator on the stream called `name`."""
        return torch.Generator().manual_seed(self.at(*name))

    def numpy(self, *name: str | int) -> np.random.Generator:
        """Return a fresh numpy generator on the stream called `name`."""
        return np.random.default_rng(self.at(*name))

    @contextmanager
    def initialising(self, *name: str | int) -> Generator[None]:
        """Within the block, torch's module initialisers draw from the stream called `name`; nothing leaks out."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.at(*name))
            yield

    def _digest(self, name: tuple[str | int, ...]) -> bytes:
        root = self.root if isinstance(self.root, bytes) else str(self.root).encode()
        parts = [root, *(f"{type(part).__name__}:{part}".encode() for part in name)]
        return hashlib.sha256(b"".join(len(part).to_bytes(4, "little") + part for part in parts)).digest()
