"""Marks of guesses of classes, features, membership and shares: worked values, twins, and chance levels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, roc_auc_score, roc_curve

from vfl.attacks import Guess
from vfl.metrics._pictures import pictures, ssim
from vfl.metrics.membership import Membership
from vfl.metrics.proportion import Proportion
from vfl.metrics.reconstruction import Reconstruction
from vfl.metrics.recovery import Recovery


def guess(target, scores, rows=None, steps=None) -> Guess:
    rows = torch.arange(len(scores)) if rows is None else rows
    return Guess(target, torch.zeros_like(rows) if steps is None else steps, rows, scores)


def rng():
    return np.random.default_rng(0)


def stream():
    return torch.Generator().manual_seed(0)


def test_recovery_agrees_with_scikit_learn():
    labels = torch.randint(0, 3, (600,), generator=stream())
    scores = torch.randn(600, 3, generator=stream()) + 0.8 * torch.nn.functional.one_hot(labels, 3)
    figures = Recovery().result(guess("labels", scores), labels, rng())
    decided = scores.argmax(dim=1)
    assert figures["accuracy"] == pytest.approx(float((decided == labels).double().mean()))
    assert figures["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(labels, decided))
    aucs = [roc_auc_score(labels == c, scores[:, c]) for c in range(3)]
    assert figures["auc"] == pytest.approx(np.mean(aucs))
    assert figures["prior_only"] == pytest.approx(float(torch.bincount(labels).max()) / 600)
    assert figures["ci"][0] < figures["accuracy"] < figures["ci"][1]


def test_recovery_draws_all_entries_of_a_row_together():
    """Ten copies of each row say nothing new: the interval is as wide as that of one copy."""
    labels = torch.randint(0, 2, (200,), generator=stream())
    scores = torch.randn(200, 2, generator=stream())
    once = Recovery().result(guess("labels", scores), labels, rng())["ci"]
    rows = torch.arange(200).repeat(10)
    often = Recovery().result(guess("labels", scores.repeat(10, 1), rows), labels.repeat(10), rng())["ci"]
    assert often == pytest.approx(once)


@pytest.mark.parametrize("scores", [torch.zeros(4), torch.full((4, 2), torch.nan), torch.zeros(4, 1)])
def test_recovery_refuses_scores_it_cannot_read(scores):
    with pytest.raises(ValueError, match="got"):
        Recovery().result(guess("labels", scores), torch.tensor([0, 1, 1, 0]), rng())


def test_reconstruction_of_the_mean_and_of_another_row_are_its_baselines():
    truth = torch.randn(4000, 3, generator=stream()) * torch.tensor([1.0, 5.0, 0.1])
    others = truth[torch.randperm(4000, generator=stream())]
    for scores, expected in ((truth, 0.0), (truth.mean(dim=0).expand(4000, 3), 1.0), (others, 2.0)):
        figures = Reconstruction().result(guess("features", scores), truth, rng())
        assert figures["nmse"] == pytest.approx(expected, abs=0.05)
    assert figures["chance"]["nmse"] == 2.0
    assert Reconstruction().result(guess("features", truth), truth, rng())["exact"] == 1.0


def test_psnr_is_in_decibels_of_the_range():
    truth = torch.tensor([[0.0], [1.0], [0.5], [0.25]])
    figures = Reconstruction().result(guess("features", truth + 0.1), truth, rng())
    assert figures["psnr_db"] == pytest.approx(20.0, abs=1e-4)


@pytest.mark.parametrize(("rows", "steps"), [(4000, None), (1237, 4), (977, 25)])
def test_membership_rates_are_those_of_the_roc_curve(rows, steps):
    """Also where scores tie, and where no whole number of outsiders makes the rate."""
    inside = torch.arange(rows) % 5 < 2
    scores = torch.randn(rows, generator=stream()) + inside.float()
    scores = scores if steps is None else (scores * steps).round() / steps
    figures = Membership().result(guess("membership", scores), inside.long(), rng())
    rates, found, _ = roc_curve(inside, scores, drop_intermediate=False)
    assert figures["auc"] == pytest.approx(roc_auc_score(inside, scores))
    for rate in (0.001, 0.01, 0.1):
        assert figures[f"tpr_at_{rate:g}"] == pytest.approx(found[rates <= rate].max(), abs=1e-9)


def test_a_row_scored_often_counts_once_by_its_mean():
    rows, scores = torch.tensor([0, 0, 0, 1]), torch.tensor([0.4, 0.2, 0.6, 0.9])
    figures = Membership().result(guess("membership", scores, rows), torch.tensor([0, 0, 0, 1]), rng())
    assert (figures["auc"], figures["tpr_at_0.1"]) == (1.0, 1.0)


def test_columns_count_alike_in_nmse_however_wide_they_are():
    truth = torch.randn(4000, 3, generator=stream()) * torch.tensor([1.0, 5.0, 0.1])
    scores = torch.stack([torch.full((4000,), float(truth[:, 0].mean())), truth[:, 1], truth[:, 2] * 0], dim=1)
    assert Reconstruction().result(guess("features", scores), truth, rng())["nmse"] == pytest.approx(2 / 3, abs=0.01)


def test_shares_are_marked_by_batch():
    labels = torch.tensor([1, 0, 0, 0, 1, 1, 1, 0])
    steps = torch.tensor([0] * 4 + [1] * 4)
    guessed = torch.tensor([0.5] * 4 + [0.5] * 4)
    figures = Proportion().result(guess("proportion", guessed, steps=steps), labels, rng())
    assert figures["mae"] == pytest.approx(0.25)
    assert figures["prior_only"] == pytest.approx(0.25)
    assert figures["correlation"] is None


def slow_ssim(found, truth, side, span):
    """The paper's formula, window by window."""
    one, two, values = (0.01 * span) ** 2, (0.03 * span) ** 2, []
    for left, right in zip(found, truth, strict=True):
        for top in range(left.shape[0] - side + 1):
            for start in range(left.shape[1] - side + 1):
                x, y = (each[top : top + side, start : start + side].ravel() for each in (left, right))
                shared = ((x - x.mean()) * (y - y.mean())).mean()
                likeness = (2 * x.mean() * y.mean() + one) * (2 * shared + two)
                values.append(likeness / (x.mean() ** 2 + y.mean() ** 2 + one) / (x.var() + y.var() + two))
    return np.mean(values)


def test_similarity_of_pictures_is_the_papers_formula_window_by_window():
    columns = tuple(f"px_{row}_{column}" for column in range(4, 9) for row in range(9))
    truth = torch.randn(6, 45, generator=stream())
    found = truth + torch.randn(6, 45, generator=stream().manual_seed(1))
    told = Guess("features", torch.zeros(6, dtype=torch.int64), torch.arange(6), found, "publisher", columns)
    figures = Reconstruction().result(told, truth, rng())
    shaped = [each.double().numpy().reshape(6, 5, 9).transpose(0, 2, 1) for each in (found, truth)]
    span = float(truth.max() - truth.min())
    assert figures["ssim"] == pytest.approx(slow_ssim(*shaped, 5, span))
    mean = np.broadcast_to(shaped[1].mean(axis=0), shaped[1].shape)
    assert figures["ssim_prior"] == pytest.approx(slow_ssim(mean, shaped[1], 5, span))


def test_windows_are_seven_wide_where_the_picture_is_wider():
    found, truth = torch.randn(2, 3, 1, 9, 11, generator=stream()).double()
    span = float(truth.max() - truth.min())
    assert ssim(found, truth) == pytest.approx(slow_ssim(found[:, 0].numpy(), truth[:, 0].numpy(), 7, span))


@pytest.mark.parametrize("columns", [("age", "px_0_1"), ("px_0_0", "px_1_1"), ("px_0_0", "px_0_0"), ()])
def test_columns_that_make_no_picture_have_no_similarity(columns):
    values = torch.randn(5, max(len(columns), 1), generator=stream())
    told = Guess("features", torch.zeros(5, dtype=torch.int64), torch.arange(5), values, "publisher", columns)
    assert "ssim" not in Reconstruction().result(told, values, rng())


def test_similarity_of_colours_is_the_mean_over_channels_and_one_for_the_same():
    columns = tuple(f"px_{row}_{column}_{channel}" for row in range(7) for column in range(7) for channel in range(3))
    truth = torch.randn(4, 147, generator=stream())
    assert ssim(pictures(truth, columns), pictures(truth, columns)) == pytest.approx(1.0)
    swapped = pictures(truth, columns)
    assert torch.equal(swapped[0, 2, 3, 4], truth[0, (3 * 7 + 4) * 3 + 2].double())
    assert ssim(9 - swapped, 9 + swapped) < 0  # as bright, and light where the other is dark
    assert ssim(torch.zeros(1, 1, 8, 8), torch.ones(1, 1, 8, 8)) is None
