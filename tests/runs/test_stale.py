"""The oracle of `train.stale: 1`: a central loop that applies the publisher's gradients one step late, bit for bit.

And of the hot path at full size: after 50 steps, side by side in threads, the weights of a plain loop.
"""

from __future__ import annotations

import pytest
import torch
from harness import config, digest, train
from torch import nn

from experiments.bench import throughput
from experiments.plan import coordinator_plan
from vfl import checkpoint
from vfl.coordinator import phase_steps
from vfl.types import Step


def sizes(stale: int, batch_size: int, rows: int):
    """Return a run over rows that no holdout but the smallest takes from, with a checkpoint of its end."""
    data = {"name": "experiments.bench.workload:Workload", "rows": rows}
    fields = {"train": {"batch_size": batch_size, "epochs": 1, "stale": stale, "checkpoint_every": 0}, "data": data}
    return throughput.configuration("W0", batch_size, "local", **fields)


def central(asked, folder, steps: list[Step], stale: bool) -> dict[str, nn.Module]:
    """Train in one graph; where `stale`, the publisher's optimizer is given the gradients of the step before."""
    order = checkpoint.load(folder / "referee" / "order.safetensors")[0]["order"]
    whole = throughput.Central.of(asked, order[:, 0], order[:, 1])
    bottoms, top = whole.bottoms, whole.top
    theirs = whole.optimizer(bottoms[0].parameters())
    ours = whole.optimizer([*bottoms[1].parameters(), *top.parameters()])
    late: list[torch.Tensor] | None = None
    for step in steps:
        theirs.zero_grad()
        ours.zero_grad()
        whole.loss(step).backward()
        ours.step()
        now = [p.grad.clone() for p in bottoms[0].parameters()]
        late = _apply(theirs, bottoms[0], late, now) if stale else _apply(theirs, bottoms[0], now, None)
    if stale:
        _apply(theirs, bottoms[0], late, None)
    return {"publisher.bottom": bottoms[0], "advertiser.bottom": bottoms[1], "advertiser.top": top}


def _apply(optimizer, module, gradients, following):
    if gradients is not None:
        for parameter, gradient in zip(module.parameters(), gradients, strict=True):
            parameter.grad = gradient
        optimizer.step()
    return following


@pytest.mark.parametrize(("stale", "batch_size"), [(1, 100), (1, 600), (0, 600), (0, 100)])
def test_fifty_steps_give_the_weights_of_a_central_loop(tmp_path, stale: int, batch_size: int) -> None:
    asked = sizes(stale, batch_size, 50 * batch_size + 500)
    fit = train(asked, tmp_path)
    phase = coordinator_plan(asked).phases[0]
    played = [step for step, _ in phase_steps(phase, int(fit.reports["advertiser"]["train"]))]
    assert len(played) >= 50
    assert len(fit.progress.losses) == len(played) + stale
    for name, module in central(asked, tmp_path, played, bool(stale)).items():
        party, part = name.split(".")
        tensors, _ = checkpoint.load(tmp_path / "parties" / party / "checkpoints" / "final.safetensors")
        for key, value in module.state_dict().items():
            torch.testing.assert_close(tensors[f"{part}.{key}"], value, rtol=0, atol=0)


def test_one_step_late_is_another_training_with_as_much_on_the_wire() -> None:
    def run(stale: int):
        asked = {"epochs": 2, "batch_size": 64, "stale": stale, "checkpoint_every": 0}
        return train(config(train=asked, holdout={"test": 0.25, "valid": 0.0}))

    late, exact = run(1), run(0)
    assert digest(late) != digest(exact)
    assert late.closing["advertiser"]["bytes/gradient"] == exact.closing["advertiser"]["bytes/gradient"]
    assert late.closing["publisher"]["bytes/embedding"] == exact.closing["publisher"]["bytes/embedding"]
