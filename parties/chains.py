"""The digest chain of every edge a party sends on, linked on a thread of its own.

Hashing lets go of the interpreter, so a step's link is made while the next hop computes. Links are made in the order
the envelopes were sent, so the chains are what linking at once would give.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

from flwr.app import ArrayRecord

from vfl.types import PartyId
from vfl.wire import chain


class Chains:
    """One party's chains by destination."""

    def __init__(self) -> None:
        self._links: dict[PartyId, bytes] = {}
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="digest")
        self._pending: list[Future[None]] = []

    def add(self, dst: PartyId, key: str, record: ArrayRecord) -> None:
        """Link one envelope to its edge's chain, soon."""
        self._pending = [link for link in self._pending if not link.done() or link.exception()]
        self._pending.append(self._worker.submit(self._link, dst, key, record))

    def settled(self) -> dict[PartyId, bytes]:
        """Wait for all links and return the end of each chain."""
        for link in self._pending:
            link.result()
        return dict(self._links)

    def resume(self, links: dict[PartyId, bytes]) -> None:
        """Go on from the ends of chains that `settled` gave."""
        self.settled()
        self._links = dict(links)

    def _link(self, dst: PartyId, key: str, record: ArrayRecord) -> None:
        self._links[dst] = chain(self._links.get(dst, b""), key, record)
