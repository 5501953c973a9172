"""Private set intersection by Diffie-Hellman: parties learn what they share, and little else."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from itertools import chain
from typing import ClassVar, cast

import numpy as np
import torch
from torch import Tensor

from vfl.align import Alignment, Ids
from vfl.align._ids import as_keys, canonical, require_unique
from vfl.align._matching import ABSENT, Matched, announce, find, refuse, settle
from vfl.crypto.masking import POINT_BYTES, digest_points, mask_messages, mask_points
from vfl.exchange import NOTHING, Mail, OneByOne, Outgoing
from vfl.seeds import Seeds
from vfl.types import Hop, Kind, PartyId, Role, Step

HOPS = (
    Hop("psi_ask", Role.ADVERTISER, "ask", gives=Kind.PSI),
    Hop("psi_mask", Role.PUBLISHER, "mask"),
    Hop("psi_answer", Role.PUBLISHER, "answer", takes=("psi_ask", "psi_mask"), gives=Kind.PSI),
    Hop("match", Role.ADVERTISER, "match", takes=("psi_answer",), gives=Kind.CONTROL),
    Hop("settle", Role.PUBLISHER, "settle", takes=("match",)),
    Hop("admit", Role.REFEREE, "admit", takes=("match",)),
)
_CANARY = b"\1"
"""Stands first in every list, before the ids (which start with 0): masked by both it is a key that only they know."""


@dataclass(frozen=True)
class EcdhPsi:
    """Private set intersection by elliptic-curve Diffie-Hellman, between the advertiser and each publisher.

    The advertiser sends a H(x) for its ids x; a publisher answers SHA-256(b a H(x)) in the order it was asked and adds
    b H(y) for its own ids y, shuffled; the advertiser computes SHA-256(a b H(y)) and compares. Scalars a and b are
    of each party's own stream: fresh for each run of a new seed, while a deployment's folder keeps its secret, so that
    whoever reads the masked ids of two runs from one folder can link them. The advertiser then tells each publisher
    which entries of its list all parties share.

    Who learns what, if all follow the protocol and decisional Diffie-Hellman is hard in the group:
    the advertiser learns how many ids each publisher holds and which of its own ids each publisher holds, and nothing
    of any other id; a publisher learns how many ids the advertiser holds, which of its own ids *all* parties share, and
    whether each is a training, validation or test row; nothing of what another publisher holds.
    Whoever reads the wire unsealed learns these sizes and the shared rows' places in shuffled lists, no id.

    Points off the curve, repeated or echoed are refused, and a second question too. Answer and
    announcement carry a tag under a key that both parties derive from a common entry, so one that was changed,
    replayed from another run or pieced together is refused. The tag says that it came from whoever the first message
    reached, not who that is: a channel must.

    Not covered: a party that lies about its ids. The advertiser may ask for any id it can name, one for each entry it
    sends; a publisher that is asked for more than `max_asked` ids (0: any number) refuses before it masks one.
    Arithmetic is not in constant time.

    The group is P-256: ids are hashed to the curve by RFC 9380's P256_XMD:SHA-256_SSWU_NU_, x-coordinates are sent,
    every received point is checked to be on the curve. The NU in the name says that ids do not fall uniformly on the
    curve; RFC 9380 warns that such a map is no random oracle. What is asked of it here is less: that nobody knows how
    the logarithms of two ids' points are related.

    `workers` are the processes that this party masks with, its own among them, 1 or more. In a simulation scalars and
    shuffles come from the party's seeded stream, which makes the run repeatable and the secrets only as secret as its
    seed: simulation only.

    Reference: C. Meadows, A More Efficient Cryptographic Matchmaking Protocol for Use in the Absence of a Continuously
    Available Third Party, IEEE Symposium on Security and Privacy 1986, https://doi.org/10.1109/SP.1986.10022

    Where we differ: curves instead of a field's multiplicative group; whole tables in three messages; the answers are
    hashed; tags; several publishers, each matched with the advertiser apart.
    """

    workers: int = 1
    max_asked: int = 0

    hops: ClassVar[tuple[Hop, ...]] = HOPS
    costly: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ValueError(f"workers: got {self.workers}, allowed 1 or more; write 1 for no extra process")
        if self.max_asked < 0:
            raise ValueError(f"max_asked: got {self.max_asked}, allowed 0 or more; 0 sets no bound")

    def answer_bytes(self, asked: int, listed: int) -> int:
        """Return how long an answer is: a tag, a digest for each id asked, and the own canary and ids."""
        return POINT_BYTES * (1 + asked + 1 + listed)

    def publisher(self, ids: Ids, seeds: Seeds) -> PsiPublisher:
        """Return a publisher's side."""
        return PsiPublisher(_Masked(self, ids, seeds), self.max_asked)

    def advertiser(self, ids: Ids, pools: Tensor, seeds: Seeds, publishers: tuple[PartyId, ...]) -> PsiAdvertiser:
        """Return the advertiser's side."""
        return PsiAdvertiser(_Masked(self, ids, seeds), pools, seeds, publishers)


class _Masked:
    """One party's canary and ids, masked with its secret, the ids in a shuffled order.

    `order`, `(n,)` int64, is the row of its table at each place after the canary.
    """

    def __init__(self, options: EcdhPsi, ids: Ids, seeds: Seeds) -> None:
        require_unique(ids)
        self._options, self._ids = options, ids
        own = seeds.scope("psi")
        self._secret = b"".join(cast(bytes, own.scope("scalar", part).root) for part in range(2))
        self.order = own.numpy("shuffle").permutation(len(ids))
        self.sent = np.empty((0, POINT_BYTES), np.uint8)

    def mask_own(self) -> None:
        """Fill in `sent`: the masked canary and ids, `(1 + n, 32)` uint8."""
        messages = chain((_CANARY,), (b"\0" + each for each in canonical(self._ids, self.order)))
        self.sent = mask_messages(self._secret, messages, self._options.workers)

    def mask_theirs(self, points: np.ndarray, sender: str) -> tuple[bytes, np.ndarray]:
        """Mask a peer's points, `(1 + k, 32)` uint8; returns the masked canary and the others' digests, `(k, 32)`.

        Raises `WireError` for what is no point, for a point that comes twice and for one that this party itself sent.
        """
        if bool((find(as_keys(self.sent), as_keys(points), sender) != ABSENT).any()):
            refuse(sender, "echoes points that were sent to it", "points of its own")
        digests = digest_points(self._secret, points[1:], self._options.workers)
        return mask_points(self._secret, points[:1]).tobytes(), digests


class PsiPublisher:
    """Masks its own ids, answers the advertiser's once, and is told which of its own are shared."""

    def __init__(self, masked: _Masked, max_asked: int = 0) -> None:
        self._masked, self._max_asked = masked, max_asked
        self._key: bytes | None = None
        self.alignment: Alignment | None = None

    def mask(self, step: Step, mail: Mail) -> Outgoing:
        """Mask this party's own ids while the advertiser masks its own."""
        self._masked.mask_own()
        return NOTHING

    def answer(self, step: Step, mail: Mail) -> Outgoing:
        """Send a tag, the digests of the advertiser's masked ids in the order asked, and its own masked canary and ids.

        The body is `(1 + n + 1 + m, 32)` uint8. Raises `WireError` for a second question: one run, one set of ids.
        """
        if self._key is not None:
            refuse("advertiser", "asks a second time", "one question in a run")
        asked = _points(mail["advertiser"].body, "advertiser", least=1)
        if self._max_asked and len(asked) - 1 > self._max_asked:
            refuse("advertiser", f"asks for {len(asked) - 1} ids", f"{self._max_asked} at most (align.max_asked)")
        key, digests = self._masked.mask_theirs(asked, "advertiser")
        own = self._masked.sent
        tag = np.frombuffer(_tag(key, b"answer", asked, digests, own), np.uint8)[None]
        self._key = key
        return Outgoing(bodies={"advertiser": torch.from_numpy(np.concatenate([tag, digests, own]))})

    def settle(self, step: Step, mail: Mail) -> Outgoing:
        """Keep the place of each shared row in this party's own table."""
        if self.alignment is not None or self._key is None:
            refuse("advertiser", "comes a second time or before the question", "one announcement in a run")
        body = mail["advertiser"].body
        if body.dtype != torch.int64 or body.shape[1] != 2 or len(body) < 2:
            refuse("advertiser", f"is {body.dtype} of shape {tuple(body.shape)}", "int64 of (2 or more, 2)")
        announced, tag = body[:-2], body[-2:].numpy().tobytes()
        _confirm(tag, _tag(self._key, b"announcement", announced.numpy()), "advertiser")
        self.alignment = settle(announced, torch.from_numpy(self._masked.order))
        return NOTHING


class PsiAdvertiser:
    """Asks every publisher for the same masked ids, compares the answers, and tells everyone the shared rows."""

    def __init__(self, masked: _Masked, pools: Tensor, seeds: Seeds, publishers: tuple[PartyId, ...]) -> None:
        self._masked, self._pools, self._seeds, self._publishers = masked, pools, seeds, publishers
        self._keys: dict[PartyId, bytes] = {}
        self.alignment: Alignment | None = None

    def ask(self, step: Step, mail: Mail) -> Outgoing:
        """Send the masked canary and ids, `(1 + n, 32)` uint8, to every publisher."""
        self._masked.mask_own()
        return Outgoing(bodies=dict.fromkeys(self._publishers, torch.from_numpy(self._masked.sent)))

    def match(self, step: Step, mail: Mail) -> Outgoing:
        """Send the shared rows in handle order, `(shared, 2)` int64, to every publisher and the referee.

        A publisher's body ends in two rows more, its tag. Raises `WireError` where an answer was tampered with,
        replayed, or made with two secrets.
        """
        if self.alignment is not None:
            refuse("a publisher", "answers a second time", "one answer in a run")
        places: dict[PartyId, np.ndarray] = {}
        outside: dict[str, int] = {}
        for party in self._publishers:
            places[party], listed = self._compare(party, mail)
            outside[party] = listed - int((places[party] != ABSENT).sum())
        self.alignment, told = announce(Matched(places, outside), self._pools, self._seeds)

        def tagged(party: PartyId) -> Tensor:
            body = told.bodies[party]
            return self._tagged(party, body) if party in self._publishers else body

        return Outgoing(bodies=OneByOne(told.bodies, tagged))

    def _compare(self, party: PartyId, mail: Mail) -> tuple[np.ndarray, int]:
        """Return the place of each own row in a publisher's list, and how many rows that list holds."""
        if party not in mail:
            refuse(party, "is absent", "one answer of each publisher")
        asked = len(self._masked.order)
        body = _points(mail[party].body, party, least=asked + 2)
        digests, points = body[1 : asked + 1], body[asked + 1 :]
        self._keys[party], found = self._masked.mask_theirs(points, party)
        _confirm(body[0].tobytes(), _tag(self._keys[party], b"answer", self._masked.sent, digests, points), party)
        places = np.empty(asked, np.int64)
        places[self._masked.order] = find(as_keys(digests), as_keys(found), party)
        return places, len(points) - 1

    def _tagged(self, party: PartyId, announced: Tensor) -> Tensor:
        tag = np.frombuffer(_tag(self._keys[party], b"announcement", announced.numpy()), np.int64)
        return torch.cat([announced, torch.from_numpy(tag.reshape(2, -1).copy())])


def _points(body: Tensor, sender: str, least: int) -> np.ndarray:
    """Return a body as `(n, 32)` uint8; raises `WireError` for another type or shape or too few rows."""
    if body.dtype != torch.uint8 or body.ndim != 2 or body.shape[1] != POINT_BYTES or len(body) < least:
        refuse(sender, f"is {body.dtype} of shape {tuple(body.shape)}", f"uint8 of ({least} or more, {POINT_BYTES})")
    return body.numpy()


def _tag(key: bytes, purpose: bytes, *parts: np.ndarray) -> bytes:
    """Return the HMAC-SHA256 of a message's parts under the doubly masked canary, which only the two parties know."""
    mac = hmac.new(key, purpose, hashlib.sha256)
    for part in parts:
        mac.update(len(part).to_bytes(8, "big") + part.tobytes())
    return mac.digest()


def _confirm(got: bytes, expected: bytes, sender: str) -> None:
    if not hmac.compare_digest(got, expected):
        refuse(sender, "does not belong to this exchange or was changed on the way", "what its tag was made for")
