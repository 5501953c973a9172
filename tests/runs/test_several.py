"""The oracle of `train.batches_per_message`: a central loop whose publisher embeds a whole round with the weights of
its start, and updates after every mini-batch."""

from __future__ import annotations

import copy
import itertools
from pathlib import Path

import pytest
import torch
from harness import config, digest, train
from test_stale import sizes
from torch import nn

from experiments.bench import throughput
from experiments.plan import coordinator_plan
from vfl import checkpoint
from vfl.coordinator import phase_steps
from vfl.errors import UserError
from vfl.types import Step

BATCH, SEVERAL = 50, 4


def central(asked, folder: Path, rounds: list[Step]) -> dict[str, nn.Module]:
    order = checkpoint.load(folder / "referee" / "order.safetensors")[0]["order"]
    whole = throughput.Central.of(asked, order[:, 0], order[:, 1])
    bottoms, top = whole.bottoms, whole.top
    live = bottoms[0]
    theirs = whole.optimizer(live.parameters())
    ours = whole.optimizer([*bottoms[1].parameters(), *top.parameters()])
    for step in rounds:
        begun = bottoms[0] = copy.deepcopy(live)
        edges = [step.size * place // -(-step.size // BATCH) for place in range(-(-step.size // BATCH) + 1)]
        for start, stop in itertools.pairwise(edges):
            begun.zero_grad()
            ours.zero_grad()
            small = Step(0, "train", step.pool, step.epoch, step.start + start, stop - start, shuffle=True)
            whole.loss(small).backward()
            ours.step()
            for parameter, made in zip(live.parameters(), begun.parameters(), strict=True):
                parameter.grad = made.grad.clone()
            theirs.step()
    return {"publisher.bottom": live, "advertiser.bottom": bottoms[1], "advertiser.top": top}


def test_several_mini_batches_a_message_give_the_weights_of_a_central_loop(tmp_path) -> None:
    asked = sizes(0, BATCH, 30 * BATCH + 517)
    asked = asked.model_copy(update={"train": asked.train.model_copy(update={"batches_per_message": SEVERAL})})
    fit = train(asked, tmp_path)
    rows = int(fit.reports["advertiser"]["train"])
    rounds = [step for step, _ in phase_steps(coordinator_plan(asked).phases[0], rows)]
    assert len(fit.progress.losses) == len(rounds) == -(-rows // (BATCH * SEVERAL))
    for name, module in central(asked, tmp_path, rounds).items():
        party, part = name.split(".")
        tensors, _ = checkpoint.load(tmp_path / "parties" / party / "checkpoints" / "final.safetensors")
        for key, value in module.state_dict().items():
            torch.testing.assert_close(tensors[f"{part}.{key}"], value, rtol=0, atol=1e-6)


def test_a_message_of_one_mini_batch_is_what_it_was_and_several_cost_as_many_bytes() -> None:
    def run(several: int):
        return train(config(train={"epochs": 2, "batch_size": 64, "batches_per_message": several}))

    one, three = run(1), run(3)
    assert digest(one) == digest(train(config()))
    assert digest(one) != digest(three)
    assert len(three.progress.losses) == len(one.progress.losses) // 3
    for party, kind in (("advertiser", "gradient"), ("publisher", "embedding")):
        assert one.closing[party][f"bytes/{kind}"] == three.closing[party][f"bytes/{kind}"]


@pytest.mark.parametrize(
    ("changed", "said"), [({"method": "fedbcd"}, "method fedbcd"), ({"train": {"stale": 1}}, "train.stale above 0")]
)
def test_it_is_refused_where_rounds_are_others(changed: dict, said: str) -> None:
    asked = {"epochs": 1, "checkpoint_every": 0, "batches_per_message": 2, **changed.pop("train", {})}
    with pytest.raises((UserError, ValueError), match=f"got 2, allowed 1 with {said}"):
        config(train=asked, **changed)
