"""The oracle of `vanilla`: after 50 steps it has the weights that central training of the same network has."""

from __future__ import annotations

import pytest
import torch
from harness import config, train
from torch import Tensor, nn
from torch.nn import functional

from experiments.plan import open_world, party_specs
from vfl import checkpoint
from vfl.data.encode import EncodeOptions, fit
from vfl.data.shard import load_features
from vfl.types import Batch, Role

STEPS = 50


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize(
    "split",
    [
        None,
        {
            "name": "columns",
            "one": ["age", "sex"],
            "two": ["race", "relationship"],
            "advertiser": ["education_num", "occupation"],
        },
        {"name": "columns", "one": ["age", "sex"], "advertiser": []},
    ],
)
def test_fifty_steps_equal_central_training(tmp_path, optimizer: str, split: dict | None) -> None:
    top = {"name": "mlp", "hidden": [16]}
    asked = config(
        data="adult",
        split=split,
        model={"top": top, "embedding_dim": 8},
        train={"epochs": 1, "batch_size": 600, "optimizer": optimizer, "lr": {"adam": 1e-3, "sgd": 0.05}[optimizer]},
        holdout={"test": 0.3858, "valid": 0.0},
    )
    fitted = train(asked, tmp_path)
    assert len(fitted.progress.losses) == STEPS
    ours, losses = _central(asked, tmp_path)
    torch.testing.assert_close(torch.tensor(fitted.progress.losses), torch.tensor(losses), rtol=0, atol=1e-6)
    for party, modules in ours.items():
        tensors, _ = checkpoint.load(tmp_path / "parties" / party / "checkpoints" / "final.safetensors")
        for name, module in modules.items():
            for key, value in module.state_dict().items():
                torch.testing.assert_close(tensors[f"{name}.{key}"], value, rtol=0, atol=1e-6)


def _central(asked, folder) -> tuple[dict[str, dict[str, nn.Module]], list[float]]:
    """Train by a loop of its own: no grid, no hop, one graph from columns to loss, an optimizer that is not fused."""
    specs = [spec for spec in party_specs(asked, open_world(asked), None) if spec.role != Role.REFEREE]
    order, _ = checkpoint.load(folder / "referee" / "order.safetensors")
    ids, pools = order["order"][:, 0], order["order"][:, 1]
    count = int((pools == 0).sum())
    generator = specs[0].shared.torch("batches", "train", "train", 0)
    rows = ids[:count][torch.randperm(count, generator=generator)]
    modules: dict[str, dict[str, nn.Module]] = {}
    inputs: dict[str, Batch] = {}
    labels = torch.empty(0)
    for spec in specs:
        local = load_features(spec.shard)
        encoder = fit(local.frame, local.train_rows, local.numeric, local.categorical, EncodeOptions())
        place = {int(row): at for at, row in enumerate(local.ids)}
        picked = torch.tensor([place[int(row)] for row in rows])
        numeric, categorical = (part[picked] for part in encoder.transform(local.frame))
        bottom = spec.model.build_bottom(encoder.schema, spec.role, spec.party, spec.seeds)
        modules[spec.party] = {} if bottom is None else {"bottom": bottom}
        inputs[spec.party] = Batch(rows, numeric, categorical)
        if local.labels is not None:
            labels = torch.from_numpy(local.labels.open().copy())[picked].float()
    advertiser = specs[-1]
    width = sum(8 for found in modules.values() if found)
    modules["advertiser"]["top"] = advertiser.model.build_top(width, 2, advertiser.seeds)
    parameters = [p for found in modules.values() for module in found.values() for p in module.parameters()]
    kind = torch.optim.Adam if asked.train.optimizer == "adam" else torch.optim.SGD
    optimizer = kind(parameters, lr=asked.train.lr, foreach=False, fused=False)
    losses: list[float] = []
    for part in torch.arange(count).tensor_split(STEPS):
        logits = modules["advertiser"]["top"](_embed(modules, inputs, part))
        loss = functional.binary_cross_entropy_with_logits(logits[:, 0], labels[part])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return modules, losses


def _embed(modules: dict[str, dict[str, nn.Module]], inputs: dict[str, Batch], part: Tensor) -> Tensor:
    found = []
    for party, own in modules.items():
        batch = inputs[party]
        if "bottom" in own:
            found.append(own["bottom"](Batch(batch.rows[part], batch.numeric[part], batch.categorical[part])))
    return torch.cat(found, dim=1)
