"""Utility figures against scikit-learn, a slow calibration twin, and models whose gain is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, average_precision_score, log_loss, roc_auc_score
from sklearn.preprocessing import label_binarize

from vfl.metrics.utility import Utility, gain

FIGURES = ("auc", "pr_auc", "log_loss", "ne", "ece", "calibration_ratio", "accuracy")


def binary(rows=3000, seed=0, slope=1.5):
    """Probabilities that are calibrated by construction, and labels drawn from them."""
    rng = np.random.default_rng(seed)
    p = 1 / (1 + np.exp(2 - slope * rng.normal(size=rows)))
    return torch.tensor(p), torch.tensor((rng.random(rows) < p).astype(np.int64))


def many(rows=2000, classes=4, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.choice(classes, rows, p=np.arange(1, classes + 1) / sum(range(classes + 1)))
    logits = rng.normal(size=(rows, classes)) + 1.5 * np.eye(classes)[y]
    return torch.softmax(torch.tensor(logits), dim=1), torch.tensor(y)


def result(p, y, seed=0, **options):
    return Utility(**options).result(p, y, np.random.default_rng(seed))


def slow_ece(confidence, outcome, bins=15) -> float:
    """Sort, cut into bins of equal mass, compare means; the rows must have distinct confidences."""
    pairs = sorted(zip(confidence.tolist(), outcome.tolist(), strict=True))
    members: list[list[tuple[float, float]]] = [[] for _ in range(bins)]
    for place, pair in enumerate(pairs):
        members[place * bins // len(pairs)].append(pair)
    gaps = [abs(sum(c for c, _ in bin_) - sum(o for _, o in bin_)) for bin_ in members]
    return sum(gaps) / len(pairs)


def test_binary_figures_are_sklearns():
    p, y = binary()
    found = result(p, y)
    rate = y.double().mean().item()
    entropy = -rate * math.log(rate) - (1 - rate) * math.log(1 - rate)
    assert found["auc"] == pytest.approx(roc_auc_score(y, p), rel=1e-12)
    assert found["pr_auc"] == pytest.approx(average_precision_score(y, p), rel=1e-12)
    assert found["log_loss"] == pytest.approx(log_loss(y, p), rel=1e-9)
    assert found["ne"] == pytest.approx(log_loss(y, p) / entropy, rel=1e-9)
    assert found["accuracy"] == accuracy_score(y, p > 0.5)
    assert found["calibration_ratio"] == pytest.approx((p.sum() / y.sum()).item(), rel=1e-12)
    assert found["ece"] == pytest.approx(slow_ece(p, y), rel=1e-9)


def test_figures_of_more_classes_are_sklearns():
    p, y = many()
    found = result(p, y)
    top = p.max(dim=1)
    shares = np.bincount(y) / len(y)
    assert found["auc"] == pytest.approx(roc_auc_score(y, p, multi_class="ovr", average="macro"), rel=1e-12)
    one_hot = label_binarize(y, classes=range(4))
    assert found["pr_auc"] == pytest.approx(average_precision_score(one_hot, p, average="macro"), rel=1e-12)
    assert found["log_loss"] == pytest.approx(log_loss(y, p), rel=1e-9)
    assert found["ne"] == pytest.approx(log_loss(y, p) / -(shares * np.log(shares)).sum(), rel=1e-9)
    assert found["accuracy"] == accuracy_score(y, top.indices)
    assert found["ece"] == pytest.approx(slow_ece(top.values, (top.indices == y).double()), rel=1e-9)
    assert found["calibration_ratio"] is None
    assert found["ci"]["calibration_ratio"] is None


def test_two_columns_are_the_second():
    p, y = binary(300)
    assert result(torch.stack([1 - p, p], dim=1), y) == result(p, y)


def test_guessing_the_base_rate_is_worth_nothing():
    y = torch.arange(1000) % 4 == 0
    found = result(torch.full((1000,), 0.25), y.long())
    expected = {"auc": 0.5, "pr_auc": 0.25, "ne": 1.0, "ece": 0.0, "calibration_ratio": 1.0, "accuracy": 0.75}
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-12)


def test_overstated_probabilities_show_as_miscalibration():
    p, y = binary(20_000)
    honest, overstated = result(p, y), result((2 * p).clamp(max=1), y)
    assert honest["ece"] < 0.02
    assert honest["calibration_ratio"] == pytest.approx(1.0, abs=0.05)
    assert overstated["calibration_ratio"] > 1.6
    assert overstated["ece"] > 0.1
    assert overstated["auc"] == pytest.approx(honest["auc"], abs=0.01)


@pytest.mark.parametrize("data", [binary(), many()], ids=["binary", "many"])
def test_every_figure_lies_in_its_interval(data):
    found = result(*data)
    for name in FIGURES:
        if found[name] is not None:
            low, high = found["ci"][name]
            assert low <= found[name] <= high, name
            assert low < high


def test_intervals_are_as_wide_as_standard_errors_say():
    p, y = binary(4000)
    found = result(p, y, resamples=2000)
    loss = torch.nn.functional.binary_cross_entropy(p, y.double(), reduction="none")
    low, high = found["ci"]["log_loss"]
    assert high - low == pytest.approx(2 * 1.96 * loss.std().item() / 4000**0.5, rel=0.08)
    low, high = found["ci"]["accuracy"]
    error = math.sqrt(found["accuracy"] * (1 - found["accuracy"]) / 4000)
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.08)


def test_equal_probabilities_share_a_bin():
    y = torch.tensor([0] * 50 + [1] * 50)
    assert result(torch.full((100,), 0.5), y)["ece"] == pytest.approx(0.0, abs=1e-12)
    assert result(torch.full((100,), 0.5), y.flip(0))["ece"] == pytest.approx(0.0, abs=1e-12)


def test_certain_and_wrong_stays_finite():
    found = result(torch.tensor([1.0, 0.0]), torch.tensor([0, 1]))
    assert found["log_loss"] == pytest.approx(math.log(1e7))


def test_figures_that_do_not_exist_are_none():
    one_class = result(torch.rand(20, generator=torch.Generator().manual_seed(0)), torch.zeros(20).long())
    assert [name for name in FIGURES if one_class[name] is None] == ["auc", "pr_auc", "ne", "calibration_ratio"]
    empty = result(torch.zeros(0), torch.zeros(0).long())
    assert all(empty[name] is None and empty["ci"][name] is None for name in FIGURES)


def test_same_generator_gives_the_same_intervals():
    p, y = binary(300)
    assert result(p, y, seed=1) == result(p, y, seed=1)
    assert result(p, y, seed=1)["ci"] != result(p, y, seed=2)["ci"]


@pytest.mark.parametrize(
    ("p", "y"),
    [
        (torch.rand(3), torch.zeros(4).long()),
        (torch.tensor([0.2, 1.2]), torch.tensor([0, 1])),
        (torch.tensor([0.2, math.nan]), torch.tensor([0, 1])),
        (torch.tensor([0.2, 0.4]), torch.tensor([0, 2])),
        (torch.rand(3, 2, 2), torch.zeros(3).long()),
        (torch.full((2, 3), 0.5), torch.tensor([0, 1])),
    ],
    ids=["not-aligned", "above-1", "nan", "no-class", "three-axes", "not-summing-to-1"],
)
def test_refuses_what_it_cannot_score(p, y):
    with pytest.raises(ValueError, match="got"):
        result(p, y)


def test_gain_is_the_paired_difference():
    p, y = binary()
    worse = torch.full_like(p, 0.2) + 0.3 * p
    found = gain(p, worse, y, np.random.default_rng(0))
    assert found["log_loss"]["value"] == pytest.approx(log_loss(y, worse) - log_loss(y, p), rel=1e-9)
    assert found["log_loss"]["ci"][0] > 0
    assert found["log_loss"]["p"] < 0.01
    assert found["auc"] == {"value": 0.0, "ci": [0.0, 0.0], "p": 1.0}


def test_gain_of_a_second_signal():
    rng = np.random.default_rng(3)
    ours, theirs = rng.normal(size=(2, 4000))
    logits = -2 + ours + theirs
    y = torch.tensor((rng.random(4000) < 1 / (1 + np.exp(-logits))).astype(np.int64))
    joint, alone = torch.sigmoid(torch.tensor(logits)), torch.sigmoid(torch.tensor(-1.7 + 0.85 * ours))
    found = gain(joint, alone, y, np.random.default_rng(0))
    assert found["auc"]["value"] == pytest.approx(roc_auc_score(y, joint) - roc_auc_score(y, alone), rel=1e-9)
    for name in ("auc", "log_loss"):
        low, high = found[name]["ci"]
        assert 0 < low < found[name]["value"] < high
        assert found[name]["p"] < 0.01
    swapped = gain(alone, joint, y, np.random.default_rng(0))
    assert swapped["auc"]["value"] == -found["auc"]["value"]
    assert swapped["auc"]["ci"] == pytest.approx([-found["auc"]["ci"][1], -found["auc"]["ci"][0]])


def test_pairing_narrows_the_interval():
    """Two nearly equal models differ by far less than either's own interval."""
    p, y = binary()
    near = (p + 0.002 * torch.rand(len(p), generator=torch.Generator().manual_seed(0))).clamp(max=1)
    low, high = gain(p, near, y, np.random.default_rng(0))["auc"]["ci"]
    own = result(p, y)["ci"]["auc"]
    assert high - low < 0.1 * (own[1] - own[0])


def test_gain_of_noise_is_not_significant():
    found = []
    for seed in range(60):
        stream = torch.Generator().manual_seed(seed)
        first, second = torch.rand(2, 200, generator=stream)
        y = (torch.rand(200, generator=stream) < 0.3).long()
        found.append(gain(first, second, y, np.random.default_rng(seed), resamples=200)["auc"]["p"])
    assert np.mean(np.array(found) < 0.1) == pytest.approx(0.1, abs=0.09)


def test_gain_that_does_not_exist_is_none():
    found = gain(torch.rand(5), torch.rand(5), torch.zeros(5).long(), np.random.default_rng(0))
    assert found["auc"] == {"value": None, "ci": None, "p": None}
    assert found["log_loss"]["value"] is not None


@pytest.mark.parametrize("options", [{"resamples": 0}, {"bins": 0}])
def test_refuses_options_out_of_range(options):
    with pytest.raises(ValueError, match="got 0, allowed"):
        Utility(**options)


def test_reliability_adds_up_to_the_calibration_error_and_the_base_rate():
    p, y = binary()
    found = result(p, y)
    said, came, rows = (np.array(column) for column in zip(*found["reliability"], strict=True))
    assert rows.tolist() == [200] * 15
    assert said == pytest.approx([part.mean() for part in np.split(np.sort(p.numpy()), 15)])
    assert (rows * np.abs(said - came)).sum() / 3000 == pytest.approx(found["ece"])
    assert (rows * came).sum() == pytest.approx(float(y.sum()))


def test_a_bin_without_rows_is_left_out_of_reliability():
    y = torch.tensor([0, 1] * 50)
    assert result(torch.full((100,), 0.25), y)["reliability"] == [[0.25, 0.5, 100]]
