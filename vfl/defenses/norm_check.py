"""Received rows that are far longer than any before are flagged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from vfl.defenses import Act, ReceiveContext, State, Verdict
from vfl.defenses._noise import check_between
from vfl.defenses._release import kinds_of
from vfl.defenses._watch import check_act, check_warm_up, receiver_of, unsuspicious
from vfl.types import Kind, Role

_TINY = torch.finfo(torch.float64).tiny


@dataclass(frozen=True)
class NormCheck:
    """Flags a received row longer than `factor` times the longest row of its sender's earlier training batches.

    `on` says of which messages: the `embedding`s an advertiser receives, or the `gradient`s a publisher receives
    (measured without the factor 1/rows). Rows are held against the longest and not the usual one, because honest
    gradients differ in length by the rarity of their class. The first `warm_up` batches set the measure and are not
    judged; later ones raise it by honest rows alone, and by at most `factor` (above 1, up to 1000) at a time: whoever
    grows slowly is not found, nor is whoever keeps to usual lengths, as a replayed embedding does. A zero row is
    never flagged. `act`: `report` counts, `repair` also cuts the row to the limit, `refuse` stops the run.

    Reference: Z. Sun, P. Kairouz, A. T. Suresh, H. B. McMahan, Can You Really Backdoor Federated Learning?, 2019,
    https://arxiv.org/abs/1911.07963 (norm thresholding)

    There updates of a whole model are cut to a fixed bound; ours is for rows at the cut, and learns its bound.
    """

    on: Literal["embedding", "gradient"] = "embedding"
    factor: float = 3.0
    warm_up: int = 20
    act: Act = "report"

    binary_only: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_between(1, 1000, factor=self.factor)
        check_warm_up(self.warm_up)
        check_act(self.act)

    @property
    def receives(self) -> frozenset[Kind]:
        """The one kind that `on` names."""
        return kinds_of(self.on)

    @property
    def side(self) -> Role:
        """The receiver of that kind."""
        return receiver_of(self.on)

    def init(self) -> State:
        """Return the state before the first batch: `longest` and `batches` are `()`."""
        return {"longest": torch.zeros((), dtype=torch.float64), "batches": torch.zeros((), dtype=torch.int64)}

    def inspect(self, body: Tensor, state: State, ctx: ReceiveContext) -> tuple[Verdict, State]:
        """Return rows by how many times the longest they are, and the state with the honest ones among them."""
        if not body.numel():
            return unsuspicious(body), state
        unit = len(body) if self.on == "gradient" else 1
        lengths, longest = body.double().norm(dim=1) * unit, state["longest"]
        judges = int(state["batches"]) >= self.warm_up and bool(longest > 0)
        limit = self.factor * longest if judges else lengths.max()
        flagged = lengths > limit
        scale = (limit / lengths.clamp(min=_TINY)).clamp(max=1.0)
        suspicion = lengths / longest if judges else torch.zeros_like(lengths)
        verdict = Verdict(suspicion, flagged, (body.double() * scale[:, None]).to(body.dtype))
        if not ctx.learning:
            return verdict, state
        honest = torch.where(flagged, 0.0, lengths).max()
        return verdict, {"longest": torch.maximum(longest, honest), "batches": state["batches"] + 1}
