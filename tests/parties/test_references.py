"""What a run is compared with, against a loop of one's own: plain modules, copied weights, an optimizer not fused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from harness import config
from torch import Tensor, nn
from torch.nn import functional

from experiments.plan import open_world, party_specs
from parties.references import alone, central
from parties.settle import Settled
from parties.spec import PartySpec
from vfl.data.breast_cancer import ERROR, MEAN, BreastCancer
from vfl.data.digits import Digits
from vfl.types import Role, TableSchema

SPLIT = {"name": "columns", "one": list(MEAN[:4]), "two": list(MEAN[4:6]), "advertiser": list(ERROR[:3])}
WIDTHS = {"one": 3, "two": 2, "advertiser": 4}
MODEL = {
    "bottom": {"name": "mlp", "hidden": [5]},
    "top": {"name": "mlp", "hidden": [6]},
    "parties": {party: {"embedding_dim": width} for party, width in WIDTHS.items()},
}


def specs_of(**changed) -> tuple[list[PartySpec], Tensor, tuple[int, int, int]]:
    """Return the parties, the source rows in an order of handles, and the sizes of the pools."""
    asked = config(**{"split": SPLIT, "model": MODEL, "train": {"epochs": 3, "batch_size": 50}, **changed})
    world = open_world(asked)
    pools = world.cut.pools()
    ids = torch.randperm(len(pools), generator=torch.Generator().manual_seed(4))
    ids = torch.cat([ids[torch.from_numpy(pools)[ids] == code] for code in range(3)])
    specs = [spec for spec in party_specs(asked, world, None) if spec.role != Role.REFEREE]
    return specs, ids, tuple(int((pools == code).sum()) for code in range(3))


def standardised(columns: tuple[str, ...], ids: Tensor, train: int) -> Tensor:
    values = BreastCancer().read(columns, None).to_numpy()[ids.numpy()]
    return torch.from_numpy((values - values[:train].mean(axis=0)) / values[:train].std(axis=0)).float()


def fresh(spec: PartySpec, columns: tuple[str, ...], width: int) -> nn.Sequential:
    """Modules of one's own with the initial weights of the run's."""
    mine = nn.Sequential(nn.Linear(len(columns), 5), nn.ReLU(), nn.Linear(5, width))
    theirs = spec.model.build_bottom(TableSchema(numeric=columns), spec.role, spec.party, spec.seeds)
    copy_weights(theirs, mine)
    return mine


def copy_weights(source: nn.Module, target: nn.Module) -> None:
    with torch.no_grad():
        for mine, theirs in zip(target.parameters(), source.parameters(), strict=True):
            mine.copy_(theirs)


def slow_training(
    specs: list[PartySpec], columns: dict, ids: Tensor, sizes: tuple, labels: Tensor, lr: float
) -> Tensor:
    advertiser, train = specs[-1], sizes[0]
    bottoms = {spec.party: fresh(spec, columns[spec.party], WIDTHS[spec.party]) for spec in specs}
    width = sum(WIDTHS[spec.party] for spec in specs)
    top = nn.Sequential(nn.Linear(width, 6), nn.ReLU(), nn.Linear(6, 1))
    copy_weights(advertiser.model.build_top(width, 2, advertiser.seeds), top)
    x = {spec.party: standardised(columns[spec.party], ids, train) for spec in specs}

    def logits(rows: Tensor) -> Tensor:
        return top(torch.cat([bottoms[spec.party](x[spec.party][rows]) for spec in specs], dim=1))[:, 0]

    parameters = [p for module in [*bottoms.values(), top] for p in module.parameters()]
    make = torch.optim.Adam if advertiser.train.optimizer == "adam" else torch.optim.SGD
    optimizer = make(parameters, lr=lr, foreach=False)
    for epoch in range(3):
        stream = advertiser.shared.torch("batches", "train", "train", epoch)
        for rows in torch.randperm(train, generator=stream).tensor_split(-(-train // 50)):
            optimizer.zero_grad()
            functional.binary_cross_entropy_with_logits(logits(rows), labels[rows].float()).backward()
            optimizer.step()
    with torch.no_grad():
        positive = torch.sigmoid(logits(torch.arange(sizes[0] + sizes[1], len(ids))))
    return torch.stack([1 - positive, positive], dim=1)


@pytest.mark.parametrize(("optimizer", "lr"), [("adam", 0.01), ("sgd", 0.5)])
def test_central_is_a_plain_loop(optimizer, lr):
    specs, ids, sizes = specs_of(train={"epochs": 3, "batch_size": 50, "optimizer": optimizer, "lr": lr})
    labels = torch.from_numpy(BreastCancer().labels(None))[ids]
    columns = {"one": MEAN[:4], "two": MEAN[4:6], "advertiser": ERROR[:3]}
    found = central(specs, Settled(ids, sizes), labels)
    expected = slow_training(specs, columns, ids, sizes, labels, lr)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    assert expected[:, 1].std() > 0.1, "the network learned to tell rows apart"


def test_alone_is_the_same_loop_over_the_advertisers_columns():
    specs, ids, sizes = specs_of(train={"epochs": 3, "batch_size": 50, "lr": 0.01})
    labels = torch.from_numpy(BreastCancer().labels(None))[ids]
    found = alone(specs[-1], Settled(ids, sizes), labels)
    expected = slow_training(specs[-1:], {"advertiser": ERROR[:3]}, ids, sizes, labels, 0.01)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_no_reference_depends_on_labels_of_test_rows():
    specs, ids, sizes = specs_of(train={"epochs": 1, "batch_size": 100})
    labels = torch.from_numpy(BreastCancer().labels(None))[ids]
    flipped = labels.clone()
    flipped[sizes[0] + sizes[1] :] = 1 - flipped[sizes[0] + sizes[1] :]
    assert torch.equal(central(specs, Settled(ids, sizes), labels), central(specs, Settled(ids, sizes), flipped))
    assert torch.equal(alone(specs[-1], Settled(ids, sizes), labels), alone(specs[-1], Settled(ids, sizes), flipped))
    flipped[: sizes[0]] = 1 - flipped[: sizes[0]]
    assert not torch.equal(central(specs, Settled(ids, sizes), labels), central(specs, Settled(ids, sizes), flipped))


def test_an_advertiser_without_columns_predicts_the_base_rate():
    specs, ids, sizes = specs_of(split={**SPLIT, "advertiser": []})
    labels = torch.from_numpy(BreastCancer().labels(None))[ids]
    rate = np.mean(labels[: sizes[0]].tolist())
    found = alone(specs[-1], Settled(ids, sizes), labels)
    assert found.shape == (sizes[2], 2)
    assert found.tolist() == [pytest.approx([1 - rate, rate], abs=1e-6)] * sizes[2]


def test_the_base_rate_of_many_classes_is_their_shares():
    split = {"name": "columns", "one": ["px_3_3", "px_3_4"], "advertiser": []}
    specs, ids, sizes = specs_of(data="digits", split=split, model={})
    labels = torch.from_numpy(Digits().labels(None))[ids]
    found = alone(specs[-1], Settled(ids, sizes), labels)
    shares = np.bincount(labels[: sizes[0]], minlength=10) / sizes[0]
    np.testing.assert_allclose(found.numpy(), np.tile(shares, (sizes[2], 1)), atol=1e-6)
    probabilities = central(specs, Settled(ids, sizes), labels)
    assert probabilities.shape == (sizes[2], 10)
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(sizes[2]))
