"""Guards in whole runs: what they flag is counted, kept, repaired or refused; an honest run is left as it is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch
from harness import config, digest, train
from torch import Tensor

from experiments.integrity import integrity
from experiments.plan import open_world, party_specs
from parties.gate import FLAGS_FILE, Gate, gate
from parties.outbox import Mounted, Sender
from vfl import checkpoint
from vfl.defenses import SendContext, State
from vfl.defenses.norm_check import NormCheck
from vfl.errors import IntegrityError
from vfl.seeds import Seeds
from vfl.types import Envelope, Kind, Pool, Role, Step

SHOUTED = 5


@dataclass(frozen=True)
class Shout:
    """A publisher that sends the first rows of every batch far too long from the tenth training round on."""

    kinds: ClassVar[frozenset[Kind]] = frozenset({Kind.EMBEDDING})
    side: ClassVar[Role] = Role.PUBLISHER
    binary_only: ClassVar[bool] = False

    def init(self) -> State:
        return {}

    def apply(self, body: Tensor, state: State, ctx: SendContext) -> tuple[Tensor, State]:
        sent = body.detach().clone()
        if ctx.step >= 10:
            sent[:SHOUTED] *= 100
        return sent, state


CHECK = {"name": "norm_check", "warm_up": 3}
HOSTILE = [{"name": f"{__name__}:Shout"}]


def lines(asked, fit):
    return integrity(party_specs(asked, open_world(asked), None), fit.closing)


def test_an_honest_run_under_watch_sends_the_same_bytes():
    stack = [CHECK, {**CHECK, "on": "gradient"}, {"name": "consistency"}, {"name": "grad_scrutiny"}]
    asked = config(defense=stack)
    fit = train(asked)
    assert digest(fit) == digest(train(config()))
    found = {(line["party"], line["defense"]): line for line in lines(asked, fit)}
    assert set(found) == {
        ("advertiser", "norm_check"),
        ("advertiser", "consistency"),
        ("publisher", "norm_check"),
        ("publisher", "grad_scrutiny"),
    }
    assert all(line["rows"] > 300 for line in found.values())
    assert found["advertiser", "norm_check"]["flagged"] == 0


def test_flagged_rows_are_counted_and_kept_by_the_party_that_flagged_them(tmp_path):
    asked = config(defense=[*HOSTILE, CHECK], train={"epochs": 3, "batch_size": 64})
    fit = train(asked, tmp_path)
    (line,) = lines(asked, fit)
    assert (line["party"], line["sender"], line["first_step"]) == ("advertiser", "publisher", 10)
    assert line["flagged"] % SHOUTED == 0
    kept, _ = checkpoint.load(tmp_path / "parties" / "advertiser" / FLAGS_FILE)
    (flags,) = kept.values()
    assert flags.shape == (line["flagged"], 2)
    steps, counts = flags[:, 0].unique(return_counts=True)
    assert int(steps.min()) == 10
    assert set(counts.tolist()) == {SHOUTED}
    assert not (tmp_path / "parties" / "publisher" / FLAGS_FILE).exists()


def test_a_repaired_run_learns_from_what_was_repaired_and_a_refused_one_stops():
    def under(act: str):
        return config(defense=[*HOSTILE, {**CHECK, "act": act}], train={"epochs": 3, "batch_size": 64})

    assert digest(train(under("repair"))) != digest(train(under("report")))
    with pytest.raises(IntegrityError, match="advertiser refuses the embedding of publisher at step 10: norm_check"):
        train(under("refuse"))


def test_what_a_guard_carries_survives_a_checkpoint():
    def fresh() -> Gate:
        guards = [NormCheck(factor=2.0, warm_up=1, act="repair")]
        return gate(Sender("advertiser", 2, Seeds(0)), [Mounted(each) for each in guards], lambda step, rows: None, {})

    def sent(step: int, scale: float) -> Envelope:
        return Envelope(step, Kind.EMBEDDING, "publisher", "advertiser", torch.arange(4), scale * torch.ones(4, 2))

    first, header = fresh(), Step(0, "train", Pool.TRAIN)
    for step, scale in enumerate((1.0, 1.1, 5.0)):
        first.pass_on(replace(header, index=step), [sent(step, scale)])
    second = fresh()
    second.resume(first.loose())
    assert second.report() == first.report() == {"guard/0/publisher": [12, 4, 2]}
    (one,), (two,) = (each.pass_on(replace(header, index=3), [sent(3, 9.0)]) for each in (first, second))
    assert torch.equal(one.body, two.body)
    assert float(two.body[0].norm()) == pytest.approx(2 * 1.1 * 2**0.5, rel=1e-6)
