"""Split training on the sum of the publishers' embeddings, which the advertiser learns without any one of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from torch import Tensor

from vfl.crypto.pairwise import from_fixed, mask, shared_key, to_fixed
from vfl.errors import ConfigError, WireError
from vfl.exchange import NOTHING, Mail, Outgoing, bodies_about
from vfl.losses import classification_loss, probabilities
from vfl.methods import Desk, TrainOptions
from vfl.methods.vanilla import EVALUATE, TRAIN, VanillaAdvertiser, VanillaPublisher, valid_report
from vfl.types import Hop, Kind, PartyId, Phase, Role, Step

AGREE = (
    Hop("offer_key", Role.PUBLISHER, "offer", gives=Kind.CONTROL),
    Hop("agree_keys", Role.PUBLISHER, "agree", takes=("offer_key",)),
    Hop("await_keys", Role.ADVERTISER, "wait"),
)
EVERY_ROW = 2**31
_NO_ROWS = torch.empty(0, dtype=torch.int64)


@dataclass(frozen=True)
class SecureSum:
    """Split training whose top sees the sum of the publishers' embeddings, and nobody any single one of two or more.

    Publishers agree on pairwise keys in a first round. Each sends its embedding as fixed-point numbers modulo 2**64
    under masks that cancel in the sum over all of them, so what one sends is, by itself, uniform noise. The advertiser
    puts the sum beside its own embedding, and returns the same gradient to every publisher. With one publisher there is
    nothing to hide it among: its embedding is sent as it is. All publishers' embeddings must have one width. Where a
    publisher stays away, masks do not cancel and the run ends: there is no sum without it.

    A mask belongs to one round's rows and is used once: a publisher that is asked to embed twice in one round refuses.
    Mask keys follow from each publisher's own stream, so two runs from one seed have the same masks, and whoever holds
    both sees differences; in a deployment the stream is drawn by the system, and serves one run. An advertiser that
    has a run go on from a checkpoint and then answers otherwise than before sees differences too: it must be honest.
    Publishers that collude with it unmask their own summands, and with them what is left of the sum.

    Reference: K. Bonawitz et al., Practical Secure Aggregation for Privacy-Preserving Machine Learning, CCS 2017,
    https://eprint.iacr.org/2017/281 (its masking without recovery from dropout, on embeddings instead of model updates)
    """

    evaluate: ClassVar[tuple[Hop, ...]] = EVALUATE
    heeds: ClassVar[frozenset[str]] = frozenset({"labels", "releases", "weights"})
    masked: ClassVar[bool] = True
    """Embeddings are sent as integers that mean nothing by themselves: no defense can act on them."""

    def phases(self, train: TrainOptions) -> tuple[Phase, ...]:
        """Return the agreement on keys, and training on the aligned rows, epoch after epoch."""
        agree = Phase("agree", AGREE, epochs=1, batch_size=EVERY_ROW, validate=False)
        return (agree, Phase("train", TRAIN, epochs=train.epochs, batch_size=train.batch_size))

    def publisher(self, desk: Desk) -> MaskingPublisher:
        """Return a publisher's side."""
        return MaskingPublisher(desk)

    def advertiser(self, desk: Desk) -> SummingAdvertiser:
        """Return the advertiser's side."""
        return SummingAdvertiser(desk)


class MaskingPublisher(VanillaPublisher):
    """A publisher of `vanilla` that sends its embeddings under masks."""

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk)
        self._private = X25519PrivateKey.from_private_bytes(cast(bytes, desk.seeds.scope("masks").root))
        self._publics: dict[PartyId, Tensor] = {}
        self._keys: dict[PartyId, bytes] = {}
        self._masked_last = -1

    def loose(self) -> Mapping[str, Tensor]:
        """Return the other publishers' public keys, `(1, 32)` bytes each."""
        return dict(self._publics)

    def resume(self, loose: Mapping[str, Tensor]) -> None:
        """Take the other publishers' public keys back."""
        self._take(loose)

    def offer(self, step: Step, mail: Mail) -> Outgoing:
        """Send the public key of this run to every other publisher, `(1, 32)` bytes."""
        public = torch.frombuffer(bytearray(self._private.public_key().public_bytes_raw()), dtype=torch.uint8)
        others = [party for party in self._desk.publishers if party != self._desk.party]
        return Outgoing(_NO_ROWS, dict.fromkeys(others, public[None, :]))

    def agree(self, step: Step, mail: Mail) -> Outgoing:
        """Derive the keys that this publisher shares with each other one; raises `WireError` where one is missing."""
        missing = sorted({*self._desk.publishers} - {self._desk.party, *mail})
        if missing:
            raise WireError(f"{self._desk.party} got no key to mask with of {', '.join(missing)}; nothing is sent")
        self._take({party: envelope.body for party, envelope in mail.items()})
        return NOTHING

    def forward(self, step: Step, mail: Mail) -> Outgoing:
        """Send the masked embedding of the step's rows, `(rows, width)` int64, and keep its graph for `backward`."""
        return self._masked(step, super().forward(step, mail))

    def embed(self, step: Step, mail: Mail) -> Outgoing:
        """Send the masked embedding of evaluation rows."""
        return self._masked(step, super().embed(step, mail))

    def _masked(self, step: Step, sent: Outgoing) -> Outgoing:
        (party, embedding), *_ = sent.bodies.items()
        if step.index <= self._masked_last:
            raise WireError(f"{self._desk.party} was asked to mask twice in round {step.index}; a mask is used once")
        self._masked_last = step.index
        hidden = mask(self._desk.party, self._keys, repr(step), tuple(embedding.shape))
        return Outgoing(sent.rows, {party: to_fixed(embedding) + hidden})

    def _take(self, publics: Mapping[PartyId, Tensor]) -> None:
        for party, public in publics.items():
            pair = "|".join(sorted((self._desk.party, party)))
            self._keys[party] = shared_key(self._private, public.numpy().tobytes(), pair)
            self._publics[party] = public


class SummingAdvertiser(VanillaAdvertiser):
    """The advertiser of `vanilla` whose top reads the sum of what the publishers sent."""

    def __init__(self, desk: Desk) -> None:
        theirs = {desk.widths[party] for party in desk.publishers}
        if len(theirs) > 1:
            got = f"got publishers' embeddings of widths {sorted(theirs)}, allowed one width for secure_sum"
            raise ConfigError(f"{got}; set model.embedding_dim alone", key="model.parties")
        self._width = sum(theirs)
        super().__init__(desk)

    def wait(self, step: Step, mail: Mail) -> Outgoing:
        """Do nothing while the publishers agree."""
        return NOTHING

    def fuse(self, step: Step, mail: Mail) -> Outgoing:
        """Run the top forward and backward on the sum, and send its gradient to every publisher."""
        batch = self._desk.batch(step)
        total = self._sum(mail, batch.rows).requires_grad_()
        loss = classification_loss(self._top(self._beside(total, self._own_leaf)), cast(Tensor, batch.labels))
        loss.backward()
        self._loss = loss.item()
        return Outgoing(batch.rows, dict.fromkeys(self._desk.publishers, cast(Tensor, total.grad)))

    def score(self, step: Step, mail: Mail) -> Outgoing:
        """Send class probabilities of evaluation rows, `(rows, classes)`, to the referee."""
        batch = self._desk.batch(step)
        with torch.no_grad():
            own = None if self._bottom is None else self._bottom(batch)
            logits = self._top(self._beside(self._sum(mail, batch.rows), own))
        return Outgoing(batch.rows, {"referee": probabilities(logits)}, report=valid_report(step, batch, logits))

    def _sum(self, mail: Mail, rows: Tensor) -> Tensor:
        """Return the sum of the embeddings; int64 wraps modulo 2**64, in which the masks cancel."""
        bodies = bodies_about(mail, self._desk.publishers, rows)
        return from_fixed(torch.stack(list(bodies.values())).sum(dim=0))

    def _beside(self, total: Tensor, own: Tensor | None) -> Tensor:
        return total if own is None else torch.cat([total, own], dim=1)

    def _inputs(self) -> int:
        """Return the top's width: one sum in the place of all publishers' embeddings."""
        own = sum(width for party, width in self._desk.widths.items() if party not in self._desk.publishers)
        return self._width + own
