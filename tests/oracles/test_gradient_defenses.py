"""Defenses of gradients: the property each is named for, against closed forms and slow twins."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch.nn.functional import cosine_similarity

from vfl.defenses import SendContext
from vfl.defenses.discrete_grad import DiscreteGrad
from vfl.defenses.grad_average import GradAverage
from vfl.defenses.grad_clip import GradClip
from vfl.defenses.grad_compression import GradCompression
from vfl.defenses.grad_perturb import GradPerturb
from vfl.defenses.laplace_noise import LaplaceNoise
from vfl.defenses.mixpro import Mixpro
from vfl.defenses.ppdl import Ppdl
from vfl.defenses.rounding import Rounding
from vfl.losses import classification_loss

STREAM = torch.Generator().manual_seed(4)
BODY = torch.randn(200, 8, generator=STREAM, dtype=torch.float64) * torch.rand(200, 1, generator=STREAM) + 0.05


def context(seed=0, rows=None, by_class=None, classes=2):
    return SendContext(0, torch.Generator().manual_seed(seed), None, classes, rows, by_class)


def sent(defense, body=BODY, **about):
    return defense.apply(body, defense.init(), context(**about))[0]


class TestMixpro:
    @pytest.mark.parametrize("degrees", [10.0, 30.0, 60.0, 90.0])
    @pytest.mark.parametrize("small", ["mirror", "half"])
    def test_every_row_is_within_the_goal_and_those_turned_are_exactly_on_it(self, degrees, small):
        towards = BODY.mean(dim=0)
        found = sent(Mixpro(goal_degrees=degrees, small=small))
        mixed = self.unturned(small)
        cosines = cosine_similarity(found, towards[None])
        before = cosine_similarity(mixed, towards[None])
        goal = math.cos(math.radians(degrees))
        turned = before < goal
        assert turned.any()
        assert cosines.min() >= goal - 1e-9
        assert (cosines[turned] - goal).abs().max() < 1e-9
        assert torch.allclose(found[~turned], mixed[~turned], rtol=1e-12)

    def unturned(self, small):
        """What is mixed, drawn again: mixing alone, by its own formula."""
        generator = torch.Generator().manual_seed(0)
        partner = torch.randint(200, (200,), generator=generator)
        uniform = torch.rand(200, generator=generator, dtype=torch.float64).numpy()
        weight = torch.tensor(stats.beta(0.6, 0.6).ppf(uniform))[:, None]
        weight = torch.where(weight < 0.5, 1 - weight if small == "mirror" else 0.5, weight)
        return weight * BODY + (1 - weight) * BODY[partner]

    def test_turning_is_the_published_rule_of_gradient_vaccine(self):
        """The same vector as m + |m| (c sqrt(1-p^2) - p sqrt(1-c^2)) / (|g| sqrt(1-c^2)) g."""
        mixed, towards, goal = self.unturned("mirror"), BODY.mean(dim=0), math.cos(math.radians(30))
        p = cosine_similarity(mixed, towards[None])
        share = mixed.norm(dim=1) * (goal * (1 - p**2).sqrt() - p * math.sqrt(1 - goal**2))
        share = share / (towards.norm() * math.sqrt(1 - goal**2))
        expected = mixed + share.where(p < goal, 0.0)[:, None] * towards
        assert torch.allclose(sent(Mixpro()), expected, rtol=1e-9)

    def test_weights_keep_the_mean_over_pairings(self):
        draws = torch.stack([sent(Mixpro(goal_degrees=90.0), seed=seed) for seed in range(1500)])
        towards = BODY.mean(dim=0)
        aligned = cosine_similarity(BODY, towards[None]) > 0.9
        weight = stats.beta(0.6, 0.6).expect(lambda x: max(x, 1 - x))
        expected = weight * BODY + (1 - weight) * towards
        error = draws.std(dim=0) / 1500**0.5
        assert ((draws.mean(dim=0) - expected)[aligned].abs() < 5 * error[aligned]).all()

    def test_on_one_line_opposed_rows_vanish(self):
        body = torch.where(torch.arange(50) < 5, -10.0, 2.0)[:, None] * torch.ones(50, 4)
        found = sent(Mixpro(mean="original"), body)
        assert found.min() >= 0


def test_laplace_noise_has_its_scale_and_shape():
    noise = (sent(LaplaceNoise(2.0), BODY.repeat(50, 1)) - BODY.repeat(50, 1)).flatten().numpy()
    scale = 2.0 * float(BODY.norm(dim=1).max()) / math.sqrt(2 * 8)
    assert stats.kstest(noise / scale, "laplace").pvalue > 1e-3


def test_clipping_shortens_long_rows_and_leaves_short_ones():
    found, unit = sent(GradClip(40.0)), len(BODY)
    short = BODY.norm(dim=1) * unit <= 40.0
    assert short.any()
    assert not short.all()
    assert torch.allclose(found[short], BODY[short], rtol=1e-12)
    assert (found[~short].norm(dim=1) * unit).numpy() == pytest.approx(40.0)
    assert cosine_similarity(found, BODY).numpy() == pytest.approx(1.0)


def test_compression_keeps_the_largest_entries():
    found = sent(GradCompression(0.1))
    threshold = np.sort(BODY.abs().numpy().ravel())[-160]
    assert int((found != 0).sum()) == 160
    assert torch.equal(found, BODY.where(BODY.abs() >= threshold, 0.0))


def test_residuals_belong_to_rows_and_nothing_is_lost():
    defense, state = GradCompression(0.2, "row"), {}
    generator = torch.Generator().manual_seed(2)
    total = torch.zeros(60, 8)
    passed = torch.zeros(60, 8)
    for step in range(30):
        rows = torch.randperm(60, generator=generator)[:20]
        body = torch.randn(20, 8, generator=generator)
        out, state = defense.apply(body / 20, state, context(step, rows=rows))
        total[rows] += body
        passed[rows] += 20 * out
    assert torch.allclose(passed + state["left"], total, atol=1e-5)
    assert state["left"].any()


def test_discretising_rounds_to_even_levels():
    found = sent(DiscreteGrad(6, 2.0))
    level = 2 * 2.0 * float(BODY.square().mean().sqrt()) / 6
    steps = (found / level).numpy()
    assert steps == pytest.approx(np.rint(steps))
    assert set(np.rint(steps).astype(int).ravel()) == set(range(-3, 4))
    inside = BODY.abs() < 3 * level
    assert float((found - BODY)[inside].abs().max()) <= level / 2 + 1e-12


@pytest.mark.parametrize("classes", [2, 5])
def test_perturbed_gradient_is_that_of_a_noised_label(classes):
    logits = 1 if classes == 2 else classes
    h = torch.randn((100, 6), generator=STREAM, dtype=torch.float64, requires_grad=True)
    weight = torch.randn((6, logits), generator=STREAM, dtype=torch.float64)
    labels = torch.randint(classes, (100,), generator=STREAM)

    def gradient(target):
        return torch.autograd.grad(classification_loss(torch.tanh(h) @ weight, target), h)[0]

    by_class = torch.stack([gradient(torch.full((100,), each)) for each in range(classes)])
    found = sent(GradPerturb(0.5), gradient(labels), by_class=lambda: by_class, classes=classes)
    noise = (found - gradient(labels)).detach()
    others = by_class[1:] - by_class[:1] if classes == 2 else by_class
    for row in range(100):
        solved = torch.linalg.lstsq(others[:, row].T, noise[row][:, None])
        assert (others[:, row].T @ solved.solution)[:, 0].numpy() == pytest.approx(noise[row].numpy(), abs=1e-12)


def test_perturbation_scale_is_the_labels_sensitivity():
    by_class = torch.stack([torch.zeros(20_000, 1), torch.ones(20_000, 1)])
    two = sent(GradPerturb(0.5), torch.zeros(20_000, 1), by_class=lambda: by_class)
    assert stats.kstest(two[:, 0].numpy() * 0.5, "laplace").pvalue > 1e-3
    one_of_three = torch.stack([torch.zeros(20_000, 1), torch.ones(20_000, 1), torch.zeros(20_000, 1)])
    three = sent(GradPerturb(0.5), torch.zeros(20_000, 1), by_class=lambda: one_of_three, classes=3)
    assert stats.kstest(three[:, 0].numpy() * 0.25, "laplace").pvalue > 1e-3


def test_perturbing_needs_gradients_by_class():
    with pytest.raises(ValueError, match="use tpsl"):
        sent(GradPerturb())


def test_averaging_makes_all_rows_the_mean():
    found = sent(GradAverage())
    assert torch.equal(found, found[:1].expand_as(found))
    assert found[0].numpy() == pytest.approx(BODY.numpy().mean(axis=0))


def test_ppdl_sends_few_bounded_entries_and_the_large_ones_where_noise_is_small():
    found = sent(Ppdl(fraction=0.1), BODY) * len(BODY)
    assert 0 < int((found != 0).sum()) <= 160
    assert found.abs().max() <= 1e-3 + 1e-12
    sure = sent(Ppdl(strength=1e9, fraction=1.0, bound=1.0, threshold=0.5), BODY / 200) * 200
    cut = BODY.clamp(-1, 1)
    assert torch.allclose(sure, cut.where(cut.abs() >= 0.5, 0.0), atol=1e-2)


@pytest.mark.parametrize("classes", [2, 4])
def test_rounded_scores_are_on_the_grid_and_sum_to_one(classes):
    scores = torch.randn(500, classes, generator=STREAM).softmax(dim=1)
    found = sent(Rounding(1), scores)
    assert found.sum(dim=1).numpy() == pytest.approx(1.0, abs=1e-6)
    if classes == 2:
        assert (found * 10).numpy() == pytest.approx((found * 10).round().numpy(), abs=1e-5)
        assert float((found - scores).abs().max()) <= 0.05 + 1e-6
