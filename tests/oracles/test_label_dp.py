"""Defenses of labels: flip rates, transition matrices, unbiased gradients, and what each leaves of a label."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch.nn.functional import one_hot

from vfl.defenses import LabelContext
from vfl.defenses.kdk import Kdk
from vfl.defenses.lp_2st import Lp2st
from vfl.defenses.randomized_response import RandomizedResponse
from vfl.defenses.rr_with_prior import RrWithPrior
from vfl.defenses.tpsl import Tpsl
from vfl.losses import classification_loss
from vfl.privacy.label_dp import candidates, keep_probability, transition, unbiased
from vfl.privacy.ledger import Plan
from vfl.seeds import Seeds

N = 100_000


def labels_of(classes, n=N):
    return torch.randint(classes, (n,), generator=torch.Generator().manual_seed(1))


def context(classes, seed=0, epoch=0, teach=None):
    return LabelContext(Seeds(seed), classes, epoch, teach or (lambda labels, rows: torch.empty(0)))


@pytest.mark.parametrize(("classes", "expected"), [(2, (0.7311, 0.2689)), (10, (0.2320, 0.0853))])
def test_keep_and_flip_chances_at_epsilon_1(classes, expected):
    keep = keep_probability(1.0, classes)
    assert (keep, (1 - keep) / (classes - 1)) == pytest.approx(expected, abs=5e-5)


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("epsilon", [0.3, 2.0])
def test_labels_flip_as_often_as_epsilon_says(classes, epsilon):
    labels = labels_of(classes)
    noisy = RandomizedResponse(epsilon, debias=False).transform(labels, context(classes))
    table = torch.zeros(classes, classes).index_put_((labels, noisy), torch.ones(N), accumulate=True)
    keep = math.exp(epsilon) / (math.exp(epsilon) + classes - 1)
    for true, counts in enumerate(table.numpy()):
        chances = np.full(classes, (1 - keep) / (classes - 1))
        chances[true] = keep
        assert stats.chisquare(counts, chances * counts.sum()).pvalue > 1e-4


def test_debiased_weights_average_to_the_clean_label_and_to_the_clean_gradient():
    labels = (torch.arange(N) % 50 == 0).long()
    logits = torch.zeros(N, 1, requires_grad=True)
    weights = RandomizedResponse(1.0).transform(labels, context(2))
    assert weights.sum(dim=1).numpy() == pytest.approx(1.0, abs=1e-5)
    for each in (0, 1):
        mine = weights[labels == each]
        error = float(mine[:, 1].std()) / len(mine) ** 0.5
        assert float(mine[:, 1].mean()) == pytest.approx(each, abs=4 * error)
    noisy = RandomizedResponse(1.0, debias=False).transform(labels, context(2))
    assert float(noisy.float().mean()) == pytest.approx(0.278, abs=0.005)
    (clean,) = torch.autograd.grad(classification_loss(logits, labels), logits)
    (debiased,) = torch.autograd.grad(classification_loss(logits, weights), logits)
    assert float(debiased.sum()) == pytest.approx(float(clean.sum()), abs=0.01)


@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize("epsilon", [0.1, 1.0, 4.0])
def test_the_mean_weight_over_all_responses_is_the_clean_label(classes, epsilon):
    """Exactly: each weight times the chance of its response, chances written down anew."""
    weights = unbiased(torch.arange(classes), classes, epsilon)
    other = 1 / (math.exp(epsilon) + classes - 1)
    chances = torch.full((classes, classes), other, dtype=torch.float64)
    chances.fill_diagonal_(math.exp(epsilon) * other)
    assert (chances @ weights.double()).numpy() == pytest.approx(np.eye(classes), abs=3e-7 * float(weights.abs().max()))
    noisy = torch.arange(classes).repeat(20)
    made = RandomizedResponse(epsilon).transform(noisy, context(classes))
    flipped = RandomizedResponse(epsilon, debias=False).transform(noisy, context(classes))
    assert torch.equal(made, unbiased(flipped, classes, epsilon).float())


def test_debiased_loss_is_the_backward_corrected_loss():
    noisy, flip = torch.tensor([0, 1, 1]), 1 / (1 + math.exp(1.0))
    logits = torch.tensor([[0.3], [-2.0], [1.0]], dtype=torch.float64)
    weights = (one_hot(noisy, 2) - flip) / (1 - 2 * flip)
    losses = [
        ((1 - flip) * classification_loss(z, y) - flip * classification_loss(z, 1 - y)) / (1 - 2 * flip)
        for z, y in zip(logits.split(1), noisy.split(1), strict=True)
    ]
    assert float(classification_loss(logits, weights)) == pytest.approx(float(torch.stack(losses).mean()), rel=1e-6)


def test_reference_priors():
    prior = torch.tensor([[0.6, 0.2, 0.1, 0.05, 0.05]])
    assert int(candidates(prior, 1.0).sum()) == 1
    assert int(candidates(prior, 3.0).sum()) == 5
    kept = (transition(prior, 3.0)[0].diag() * prior[0]).sum()
    assert float(kept) == pytest.approx(0.8339, abs=5e-5)


@pytest.mark.parametrize("epsilon", [0.2, 1.0, 4.0])
@pytest.mark.parametrize("classes", [2, 6])
def test_no_output_is_likelier_by_more_than_epsilon_whatever_the_prior(epsilon, classes):
    generator = torch.Generator().manual_seed(0)
    prior = torch.rand((500, classes), generator=generator, dtype=torch.float64) ** 4
    chances = transition(prior / prior.sum(dim=1, keepdim=True), epsilon)
    assert chances.sum(dim=2).numpy() == pytest.approx(1.0)
    possible = chances.max(dim=1).values > 0
    ratio = (chances.max(dim=1).values / chances.min(dim=1).values)[possible]
    assert float(ratio.max()) <= math.exp(epsilon) * (1 + 1e-12)


def test_a_prior_draws_by_its_transition():
    prior = (0.5, 0.3, 0.2)
    labels = labels_of(3)
    noisy = RrWithPrior(2.0, prior).transform(labels, context(3))
    chances = transition(torch.tensor([prior]), 2.0)[0]
    for true in range(3):
        counts = torch.bincount(noisy[labels == true], minlength=3).numpy()
        assert stats.chisquare(counts, chances[true].numpy() * counts.sum()).pvalue > 1e-4
    with pytest.raises(ValueError, match="2 shares"):
        RrWithPrior(2.0, (0.5, 0.5)).transform(labels, context(3))


def test_two_stages_teach_noisy_labels_only_and_answer_each_row_once():
    labels, asked = labels_of(4), []

    def teach(noisy, rows):
        asked.append((noisy, rows))
        return one_hot(labels, 4) * 0.88 + 0.03

    found = Lp2st(1.0, first=0.3).transform(labels, context(4, teach=teach))
    ((noisy, rows),) = asked
    assert len(rows) == 0.3 * N
    assert torch.equal(found[rows], noisy)
    others = torch.ones(N, dtype=torch.bool)
    others[rows] = False
    assert float((noisy == labels[rows]).float().mean()) == pytest.approx(keep_probability(1.0, 4), abs=0.01)
    assert float((found[others] == labels[others]).float().mean()) == 1.0
    assert Lp2st(1.0).ledger(Plan(9, 3))[0].pure == 1.0


@pytest.mark.parametrize("classes", [2, 4])
def test_tpsl_noise_is_laplace_of_the_labels_own_sensitivity(classes):
    labels = labels_of(classes)
    noise = Tpsl(0.5).transform(labels, context(classes)).double() - one_hot(labels, classes)
    scale = 1 / 0.5 if classes == 2 else 2 / 0.5
    column = noise[:, 1].numpy()
    assert stats.kstest(column / scale, "laplace").pvalue > 1e-3
    assert np.abs(column).mean() == pytest.approx(scale, rel=4 / N**0.5)
    if classes == 2:
        assert (noise.sum(dim=1)).numpy() == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("classes", [2, 4])
def test_tpsl_gradient_is_the_clean_one_plus_noise_times_each_classs(classes):
    generator, logits = torch.Generator().manual_seed(3), 1 if classes == 2 else classes
    z = torch.randn((30, logits), generator=generator, dtype=torch.float64, requires_grad=True)
    labels = labels_of(classes, 30)
    weights = Tpsl(1.0).transform(labels, context(classes)).double()
    noise = weights - one_hot(labels, classes)

    def gradient(target):
        return torch.autograd.grad(classification_loss(z, target), z)[0]

    per_class = [gradient(torch.full((30,), each)) for each in range(classes)]
    expected = gradient(labels) + sum(noise[:, [each]] * per_class[each] for each in range(classes))
    assert gradient(weights).numpy() == pytest.approx(expected.numpy(), abs=1e-7)


def test_tpsl_spends_every_epoch_unless_drawn_once():
    assert Tpsl(0.5).ledger(Plan(10, 3))[0].pure == 5.0
    assert Tpsl(0.5, draw="once").ledger(Plan(10, 3))[0].pure == 0.5


def test_kdk_makes_k_classes_almost_equal_with_the_true_one_ahead():
    labels = torch.tensor([0, 1, 2, 3])
    scores = torch.tensor([[0.1, 0.5, 0.3, 0.1]] * 4)
    made = Kdk(k=3, gap=0.4).transform(labels, context(4, teach=lambda y, rows: scores))
    assert made.sum(dim=1).numpy() == pytest.approx(1.0)
    assert made[0].tolist() == pytest.approx([0.6, 0.2, 0.2, 0.0])
    assert made[3].tolist() == pytest.approx([0.0, 0.2, 0.2, 0.6])
    assert torch.equal(made.argmax(dim=1), labels)
    with pytest.raises(ValueError, match="up to the 2 classes"):
        Kdk(k=3).transform(labels % 2, context(2, teach=lambda y, rows: scores[:, :2]))
