from copy import deepcopy
from itertools import pairwise

import numpy as np
import pytest
import torch
from opacus.grad_sample import GradSampleModule
from torch import nn

from vfl.errors import ConfigError
from vfl.models.fedads import Fedads
from vfl.models.linear import Linear
from vfl.models.mlp import Mlp
from vfl.models.sum import Sum
from vfl.models.tabular import TabularBottom
from vfl.registry import build, entries
from vfl.types import Batch, Role, TableSchema

ROWS = 6
MIXED = TableSchema(("n1", "n2", "n3"), ("c1", "c2"), (5, 7))
NUMERIC = TableSchema(("n1", "n2", "n3"))
CATEGORICAL = TableSchema((), ("c1", "c2"), (5, 7))


def batch(schema: TableSchema, rows: int = ROWS, seed: int = 0) -> Batch:
    rng = torch.Generator().manual_seed(seed)
    ids = [torch.randint(0, size, (rows, 1), generator=rng) for size in schema.sizes]
    categorical = torch.cat(ids, 1) if ids else torch.empty(rows, 0, dtype=torch.int64)
    return Batch(torch.arange(rows), torch.randn(rows, len(schema.numeric), generator=rng), categorical)


def count(module: nn.Module) -> int:
    return sum(weights.numel() for weights in module.parameters())


def dense(*widths: int) -> int:
    return sum((before + 1) * after for before, after in pairwise(widths))


@pytest.mark.parametrize("role", [Role.PUBLISHER, Role.ADVERTISER])
@pytest.mark.parametrize("schema", [MIXED, NUMERIC, CATEGORICAL])
def test_parameter_counts_follow_from_the_sizes(schema, role):
    fields, inputs = sum(schema.sizes), len(schema.numeric)
    columns = len(schema.categorical)
    expected = {
        Mlp(hidden=(16, 4), field_dim=3): fields * 3 + dense(inputs + 3 * columns, 16, 4, 10),
        Mlp(hidden=()): fields * 8 + dense(inputs + 8 * columns, 10),
        Linear(field_dim=2): fields * 2 + dense(inputs + 2 * columns, 10),
        Fedads(): fields * 8 + dense(inputs + 8 * columns, 128 if role is Role.PUBLISHER else 256, 10),
    }
    for model, parameters in expected.items():
        bottom = model.bottom(schema, role, 10)
        assert count(bottom) == parameters
        assert bottom(batch(schema)).shape == (ROWS, 10)


def test_fedads_is_the_benchmarks_network():
    schema = TableSchema((), tuple(f"f{n}" for n in range(5)), (11,) * 5)
    publisher = Fedads().bottom(schema, Role.PUBLISHER, 32)
    advertiser = Fedads().bottom(schema, Role.ADVERTISER, 128)
    assert [tuple(layer.weight.shape) for layer in publisher.modules() if isinstance(layer, nn.Linear)] == [
        (128, 40),
        (32, 128),
    ]
    assert [tuple(layer.weight.shape) for layer in advertiser.modules() if isinstance(layer, nn.Linear)] == [
        (256, 40),
        (128, 256),
    ]
    assert [type(layer) for layer in Fedads().top(160, 2).modules()] == [nn.Sequential, nn.Linear]
    assert count(Fedads().top(160, 2)) == 161


@pytest.mark.parametrize(("classes", "outputs"), [(2, 1), (3, 3), (10, 10)])
@pytest.mark.parametrize(
    ("model", "hidden"), [(Mlp(hidden=(12,)), (12,)), (Mlp(hidden=()), ()), (Linear(), ()), (Fedads(), ())]
)
def test_tops_give_one_logit_for_two_classes_and_one_a_class_for_more(model, hidden, classes, outputs):
    top = model.top(20, classes)
    assert top(torch.randn(ROWS, 20)).shape == (ROWS, outputs)
    assert count(top) == dense(20, *hidden, outputs)


def test_linear_is_a_product_with_its_weights():
    given = batch(NUMERIC)
    bottom = Linear().bottom(NUMERIC, Role.PUBLISHER, 4)
    layer = bottom.layers[0]
    expected = given.numeric.numpy() @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()
    np.testing.assert_allclose(bottom(given).detach().numpy(), expected, rtol=1e-6, atol=1e-6)


def test_without_categorical_columns_it_is_the_plain_network_bit_for_bit():
    torch.manual_seed(3)
    plain = nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, 5))
    torch.manual_seed(3)
    bottom = Mlp(hidden=(16,)).bottom(NUMERIC, Role.PUBLISHER, 5)
    given = batch(NUMERIC)
    assert torch.equal(bottom(given), plain(given.numeric))
    for network, values in ((bottom, given), (plain, given.numeric)):
        network(values).square().sum().backward()
    assert all(
        torch.equal(mine.grad, theirs.grad)
        for mine, theirs in zip(bottom.parameters(), plain.parameters(), strict=True)
    )


@pytest.mark.parametrize("schema", [MIXED, CATEGORICAL])
def test_fields_are_those_of_one_table_a_column(schema):
    given = batch(schema)
    bottom = TabularBottom(schema, 4, hidden=(9,), field_dim=3, activation="leaky_relu")
    tables = [nn.Embedding.from_pretrained(part) for part in bottom.table.weight.detach().split(list(schema.sizes))]
    fields = [table(given.categorical[:, place]) for place, table in enumerate(tables)]
    assert torch.equal(bottom(given), bottom.layers(torch.cat([given.numeric, *fields], dim=1)))


def test_gradients_reach_the_rows_in_use_and_no_others():
    bottom = Mlp(activation="leaky_relu").bottom(MIXED, Role.PUBLISHER, 4)
    given = Batch(torch.arange(2), torch.randn(2, 3), torch.tensor([[0, 6], [3, 6]]))
    bottom(given).square().sum().backward()
    used = bottom.table.weight.grad.abs().sum(dim=1) > 0
    assert used.nonzero().flatten().tolist() == [0, 3, 5 + 6]


@pytest.mark.filterwarnings("ignore:Full backward hook is firing")  # Opacus hooks the first layer
def test_per_sample_gradients_are_those_of_single_rows():
    bottom = Mlp(hidden=(8,), field_dim=3).bottom(MIXED, Role.PUBLISHER, 4)
    given = batch(MIXED)
    plain = deepcopy(bottom)
    GradSampleModule(bottom, loss_reduction="sum")(given).square().sum().backward()
    for row in range(ROWS):
        only = slice(row, row + 1)
        loss = plain(Batch(given.rows[only], given.numeric[only], given.categorical[only])).square().sum()
        alone = torch.autograd.grad(loss, list(plain.parameters()))
        for weights, gradient in zip(bottom.parameters(), alone, strict=True):
            torch.testing.assert_close(weights.grad_sample[row], gradient)


def test_activations_are_torchs():
    x = torch.tensor([[-2.0, 3.0]])
    for name, expected in (("relu", [[0.0, 3.0]]), ("leaky_relu", [[-0.02, 3.0]])):
        top = Mlp(hidden=(2,), activation=name).top(2, 2)
        assert torch.allclose(top[1](x), torch.tensor(expected))


def test_sum_adds_party_by_party_and_is_logistic_regression_over_linear_bottoms():
    parts = [torch.randn(ROWS, 3) for _ in range(3)]
    assert torch.allclose(Sum().top(9, 3)(torch.cat(parts, 1)), parts[0] + parts[1] + parts[2], atol=1e-6)
    left, right = (Linear().bottom(NUMERIC, role, 1) for role in (Role.PUBLISHER, Role.ADVERTISER))
    first, second = batch(NUMERIC, seed=1), batch(NUMERIC, seed=2)
    logits = Sum().top(2, 2)(torch.cat([left(first), right(second)], 1))
    weights = torch.cat([left.layers[0].weight, right.layers[0].weight], 1)
    bias = left.layers[0].bias + right.layers[0].bias
    joined = torch.cat([first.numeric, second.numeric], 1)
    torch.testing.assert_close(logits, joined @ weights.T + bias)


def test_sum_is_a_top_only_and_refuses_uneven_widths():
    with pytest.raises(ConfigError, match="allowed as a top only; use bottom: linear"):
        Sum().bottom(NUMERIC, Role.PUBLISHER, 3)
    with pytest.raises(ConfigError, match="got 32 in all, allowed 3 a party"):
        Sum().top(32, 3)


def test_options_are_checked_by_the_registry():
    assert build("model", {"name": "mlp", "hidden": [8, 8]}) == Mlp(hidden=(8, 8))
    for spec, message in (
        ({"name": "mlp", "hidden": [8, 0]}, r"hidden=\(8, 0\), allowed 1 or more"),
        ({"name": "linear", "field_dim": 0}, "field_dim=0, allowed 1 or more"),
        ({"name": "fedads", "field_dim": 4}, "takes no options"),
        ({"name": "mlp", "activation": "tanh"}, "'relu' or 'leaky_relu'"),
    ):
        with pytest.raises(ConfigError, match=message):
            build("model", spec)


def test_a_single_class_and_a_party_without_columns_are_refused():
    with pytest.raises(ValueError, match="got 1 classes, allowed 2 or more"):
        Linear().top(4, 1)
    with pytest.raises(ValueError, match="got a party without columns"):
        Mlp().bottom(TableSchema(), Role.PUBLISHER, 4)


def test_helper_modules_are_no_models():
    assert {"mlp", "linear", "fedads", "sum"} <= {entry.name for entry in entries("model")}
    assert "tabular" not in {entry.name for entry in entries("model")}
