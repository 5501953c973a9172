"""Opinions, fusion rules and evidential losses, against closed forms and slow twins."""

from __future__ import annotations

from itertools import permutations, product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Dirichlet, kl_divergence

from vfl.evidence import (
    Opinion,
    dempster,
    discount,
    evidence,
    evidential_loss,
    fuse,
    misleading,
    opinion,
    vacuous,
    yager,
)

CLASSES = 3


def alphas(rows: int = 20, seed: int = 0, classes: int = CLASSES) -> torch.Tensor:
    return 1 + 8 * torch.rand(rows, classes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_sets(one: Opinion, two: Opinion, rule: str) -> Opinion:
    """Combine mass functions set by set: every pair of focal sets, intersected; what is empty is conflict."""
    rows, classes = one.belief.shape
    everything = frozenset(range(classes))
    belief, unsure = torch.zeros(rows, classes, dtype=torch.float64), torch.zeros(rows, 1, dtype=torch.float64)
    for row in range(rows):
        masses = []
        for each in (one, two):
            mass = {frozenset([k]): float(each.belief[row, k]) for k in range(classes)}
            masses.append({**mass, everything: float(each.uncertainty[row, 0])})
        joint: dict[frozenset[int], float] = {}
        for (left, a), (right, b) in product(masses[0].items(), masses[1].items()):
            joint[left & right] = joint.get(left & right, 0.0) + a * b
        conflict = joint.pop(frozenset(), 0.0)
        if rule == "yager":
            joint[everything] += conflict
        scale = 1 - conflict if rule == "dempster" else 1.0
        unsure[row, 0] = joint[everything] / scale
        for k in range(classes):
            belief[row, k] = joint[frozenset([k])] / scale
    return Opinion(belief, unsure)


@pytest.mark.parametrize("rule", ["yager", "dempster", "yager_symmetric"])
def test_two_opinions_combine_as_sets_of_classes_do(rule):
    one, two = opinion(alphas(seed=1)), opinion(alphas(seed=2))
    ours = fuse([one, two], rule)
    slow = by_sets(one, two, rule.split("_")[0])
    torch.testing.assert_close(ours.belief, slow.belief)
    torch.testing.assert_close(ours.uncertainty, slow.uncertainty)


def test_uncertainty_is_classes_over_total_and_all_sums_to_one():
    alpha = alphas()
    found = opinion(alpha)
    torch.testing.assert_close(found.uncertainty[:, 0], CLASSES / alpha.sum(dim=1))
    torch.testing.assert_close(found.belief.sum(dim=1) + found.uncertainty[:, 0], torch.ones(20, dtype=torch.float64))
    torch.testing.assert_close(found.alpha, alpha)
    torch.testing.assert_close(found.expected, alpha / alpha.sum(dim=1, keepdim=True))


def test_conflict_is_uncertain_to_yager_and_forgotten_by_dempster():
    one = Opinion(torch.tensor([[0.9, 0.0]]), torch.tensor([[0.1]]))
    two = Opinion(torch.tensor([[0.0, 0.9]]), torch.tensor([[0.1]]))
    assert yager(one, two).uncertainty.item() == pytest.approx(0.82)
    assert dempster(one, two).uncertainty.item() == pytest.approx(0.01 / 0.19)
    agreeing = fuse([one, Opinion(torch.tensor([[0.6, 0.0]]), torch.tensor([[0.4]]))], "yager")
    assert agreeing.uncertainty.item() == pytest.approx(0.04)


def test_a_worked_conflict_of_three_classes():
    """alpha (5,1,1) and (1,4,1): u = 3/7 and 3/6, beliefs 4/7 in the first class and 3/6 in the second."""
    one, two = (opinion(torch.tensor([row], dtype=torch.float64)) for row in ((5.0, 1.0, 1.0), (1.0, 4.0, 1.0)))
    assert yager(one, two).uncertainty.item() == pytest.approx(0.5)
    assert dempster(one, two).uncertainty.item() == pytest.approx(0.3)


def test_the_symmetric_rule_has_no_order_and_the_pairwise_one_does():
    three = [opinion(alphas(seed=seed)) for seed in range(3)]
    found = [fuse(order, "yager_symmetric").belief for order in permutations(three)]
    assert all(torch.allclose(found[0], other) for other in found)
    pairwise = [fuse(order, "yager").uncertainty for order in permutations(three)]
    assert not torch.allclose(pairwise[0], pairwise[-1])


@pytest.mark.parametrize("rule", ["yager", "yager_symmetric", "dempster"])
def test_a_vacuous_opinion_changes_nothing(rule):
    one = opinion(alphas())
    fused = fuse([one, vacuous(20, CLASSES), discount(opinion(alphas(seed=4)), 0.0)], rule)
    torch.testing.assert_close(fused.belief, one.belief)
    torch.testing.assert_close(fused.uncertainty, one.uncertainty)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.lists(st.floats(1, 1e4), min_size=4, max_size=4), min_size=1, max_size=4),
    st.sampled_from(["yager", "yager_symmetric", "dempster"]),
    st.floats(0, 1),
)
def test_fused_opinions_are_opinions(rows, rule, weight):
    parts = [discount(opinion(torch.tensor([row], dtype=torch.float64)), weight) for row in rows]
    fused = fuse(parts, rule)
    assert (fused.belief >= -1e-12).all()
    assert -1e-12 <= fused.uncertainty.item() <= 1 + 1e-12
    assert fused.belief.sum().item() + fused.uncertainty.item() == pytest.approx(1)


def test_losses_are_expectations_under_the_dirichlet():
    """Digamma cross-entropy and squared error against a Monte Carlo mean; the log form against the mean's log."""
    alpha, labels = alphas(rows=3), torch.tensor([0, 2, 1])
    torch.manual_seed(0)
    draws = Dirichlet(alpha).sample((400_000,))
    shown = torch.nn.functional.one_hot(labels, CLASSES)
    entropy = -(shown * draws.log()).sum(dim=2).mean(dim=0)
    squared = (shown - draws).square().sum(dim=2).mean(dim=0)
    torch.testing.assert_close(evidential_loss(alpha, labels, "digamma", 0.0), entropy, rtol=0, atol=0.01)
    torch.testing.assert_close(evidential_loss(alpha, labels, "mse", 0.0), squared, rtol=0, atol=0.005)
    mean = (alpha / alpha.sum(dim=1, keepdim=True)).gather(1, labels[:, None])[:, 0]
    torch.testing.assert_close(evidential_loss(alpha, labels, "log", 0.0), -mean.log())


def test_misleading_evidence_costs_its_divergence_from_knowing_nothing():
    alpha, labels = alphas(), torch.arange(20) % CLASSES
    shown = torch.nn.functional.one_hot(labels, CLASSES).double()
    left = torch.where(shown.bool(), torch.ones_like(alpha), alpha)
    expected = kl_divergence(Dirichlet(left), Dirichlet(torch.ones_like(left)))
    torch.testing.assert_close(misleading(alpha, shown), expected)
    both = evidential_loss(alpha, labels, "digamma", 0.7) - evidential_loss(alpha, labels, "digamma", 0.0)
    torch.testing.assert_close(both, 0.7 * expected)


def test_the_squared_error_is_that_of_the_dirichlets_first_two_moments():
    """E p = a / S and E p^2 = a (a + 1) / (S (S + 1)), where the mean of many draws is too coarse to tell."""
    alpha, labels = torch.tensor([[1.5, 3.0, 0.5], [2.0, 1.0, 1.0]], dtype=torch.float64), torch.tensor([1, 2])
    total, shown = alpha.sum(dim=1, keepdim=True), torch.eye(3, dtype=torch.float64)[labels]
    first, second = alpha / total, alpha * (alpha + 1) / (total * (total + 1))
    expected = (shown - 2 * shown * first + second).sum(dim=1)
    torch.testing.assert_close(evidential_loss(alpha, labels, "mse", 0.0), expected)


@pytest.mark.parametrize("name", ["digamma", "log", "mse"])
def test_gradients_are_those_of_finite_differences(name):
    alpha = alphas(rows=4).requires_grad_()
    labels = torch.tensor([0, 1, 2, 1])
    assert torch.autograd.gradcheck(lambda values: evidential_loss(values, labels, name, 0.3), (alpha,))


@pytest.mark.parametrize("name", ["digamma", "log", "mse"])
def test_evidence_for_the_true_class_lowers_the_loss_and_for_another_raises_it(name):
    alpha = torch.full((1, 3), 2.0, requires_grad=True)
    evidential_loss(alpha, torch.tensor([1]), name, 0.1).sum().backward()
    assert alpha.grad[0, 1] < 0 < alpha.grad[0, 0]


@pytest.mark.parametrize("activation", ["exp", "softplus"])
def test_evidence_is_never_negative_and_stays_finite(activation):
    found = evidence(torch.tensor([[-1e4, 0.0, 1e4]]), activation)
    assert (found >= 0).all()
    assert torch.isfinite(found).all()


def test_shuffled_labels_leave_a_head_less_certain():
    """The same head, rows and steps: with labels that say nothing it ends nearer to knowing nothing."""
    stream = torch.Generator().manual_seed(0)
    labels = torch.arange(200) % 2
    values = torch.randn(200, 2, generator=stream) + 2.0 * (2 * labels[:, None] - 1)

    def mean_uncertainty(targets: torch.Tensor) -> float:
        weight = torch.zeros(2, 2, requires_grad=True)
        optimizer = torch.optim.Adam([weight], lr=0.05)
        for _ in range(200):
            optimizer.zero_grad()
            alpha = evidence(values @ weight, "exp") + 1
            evidential_loss(alpha, targets, "digamma", 0.1).mean().backward()
            optimizer.step()
        return opinion(evidence(values @ weight.detach(), "exp") + 1).uncertainty.mean().item()

    shuffled = labels[torch.randperm(200, generator=stream)]
    assert mean_uncertainty(shuffled) > mean_uncertainty(labels) + 0.2


@pytest.mark.parametrize("rule", ["yager", "dempster", "yager_symmetric"])
@pytest.mark.parametrize("parties", [2, 4])
def test_the_surest_parties_that_agree_still_learn(rule, parties):
    """At the most evidence that a head can give, in single precision, where the fused uncertainty is all but lost."""
    outputs = [torch.tensor([[50.0, -50.0]], requires_grad=True) for _ in range(parties)]
    held = fuse([opinion(evidence(each, "exp") + 1) for each in outputs], rule)
    assert 0 < held.uncertainty.item() < 1e-6
    loss = evidential_loss(held.alpha, torch.tensor([0]), "digamma", 0.01).sum()
    assert torch.isfinite(loss)
    for gradient in torch.autograd.grad(loss, outputs):
        assert torch.isfinite(gradient).all()
