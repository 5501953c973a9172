"""Marvell against reference values, closed forms, an independent convex solver, and the paper's own bound."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from sklearn.metrics import roc_auc_score

from vfl.defenses import SendContext
from vfl.defenses.marvell import Marvell
from vfl.privacy.sumkl import Noise, TwoClasses, leak_auc_bound, least_sum_kl, noise_for, sum_kl

RANDOM = np.random.default_rng(20)


def random_tuple() -> tuple[float, float, int, float, float, float]:
    """u, v, dim, gap, p, s over the ranges that training shows."""
    u, v, gap, s = 10 ** RANDOM.uniform((-6, -6, -3, -1), (0, 0, 1, 1.2))
    return u, v, int(RANDOM.integers(1, 130)), gap, RANDOM.uniform(0.004, 0.9), s


TUPLES = [random_tuple() for _ in range(200)]
TUPLES.append((0.0163, 0.0157, 196, 0.0057, 0.949, 0.0152))  # all the power goes to one class: a bound is met


def solved(u, v, dim, gap, p, s) -> tuple[TwoClasses, Noise, float]:
    classes = TwoClasses(u, v, gap, dim, p)
    noise = least_sum_kl(classes, s * gap)
    return classes, noise, sum_kl(classes, noise)


def ctx(labels, seed=0) -> SendContext:
    return SendContext(0, torch.Generator().manual_seed(seed), labels, 2)


def geometric_program(u, v, dim, gap, p, s) -> float:
    """Least sumKL over all four variances, in the logarithms of (A, B, C, D) = noised variances, in units of the gap.

    Sums of monomials are convex there and the budget is a posynomial, so a local minimum is the global one.
    """
    u, v, side = u / gap, v / gap, dim - 1
    terms = [(side, (0, 1, 0, -1)), (side, (0, -1, 0, 1)), (1, (1, 0, -1, 0)), (1, (-1, 0, 1, 0))]
    weights, powers = zip(*terms, (1, (0, 0, -1, 0)), (1, (-1, 0, 0, 0)), strict=True)
    weights, powers = np.array(weights, float), np.array(powers, float)
    shares = np.array([1 - p, (1 - p) * side, p, p * side])
    budget = s + dim * (p * v + (1 - p) * u)
    most = np.log(budget / np.maximum(shares, 1e-9))
    best = math.inf
    for spread in (0.1, 0.9):
        start = np.log([u + s * spread, u + s * 0.01 / dim, v + s * spread, v + s * 0.01 / dim])
        found = minimize(
            lambda w: math.log(weights @ np.exp(powers @ w)),
            start,
            jac=lambda w: (weights * np.exp(powers @ w)) @ powers / (weights @ np.exp(powers @ w)),
            method="SLSQP",
            bounds=list(zip(np.log([u, u, v, v]), most, strict=True)),
            constraints=[
                {
                    "type": "ineq",
                    "fun": lambda w: 1 - shares @ np.exp(w) / budget,
                    "jac": lambda w: -shares * np.exp(w) / budget,
                },
                {
                    "type": "ineq",
                    "fun": lambda w: np.array([w[0] - w[1], w[2] - w[3]]),
                    "jac": lambda w: np.array([[1.0, -1, 0, 0], [0, 0, 1, -1]]),
                },
            ],
            options={"ftol": 1e-15, "maxiter": 500},
        )
        if shares @ np.exp(found.x) <= budget * (1 + 1e-9):
            best = min(best, math.exp(found.fun) / 2 - dim)
    return best


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((1e-3, 4e-3, 16, 0.5, 0.25, 1), 1.0446233),
        ((4e-3, 1e-3, 16, 0.5, 0.25, 1), 0.99467607),
        ((1e-4, 1e-2, 128, 1, 0.02, 4), 0.34835908),
        ((1e-6, 1e-5, 8, 0.1, 0.1, 0.5), 1.8349411),
    ],
)
def test_reference_values(arguments, expected):
    assert solved(*arguments)[2] == pytest.approx(expected, rel=5e-8)


@pytest.mark.parametrize("tuples", [TUPLES[-40:], pytest.param(TUPLES, marks=pytest.mark.slow)], ids=len)
def test_agrees_with_an_independent_geometric_program(tuples):
    for arguments in tuples:
        ours, independent = solved(*arguments)[2], geometric_program(*arguments)
        assert ours == pytest.approx(independent, rel=1e-6, abs=1e-9), arguments


@pytest.mark.parametrize(("gap", "p", "s"), [(1, 0.25, 4), (0.3, 0.01, 0.1), (20, 0.5, 1), (1e-9, 0.9, 25)])
@pytest.mark.parametrize("dim", [1, 16])
def test_closed_form_without_spread(gap, p, s, dim):
    power = s * gap
    ratio = math.sqrt((power + (1 - p) * gap) / (power + p * gap))
    negative = (power / p) / (ratio + (1 - p) / p)
    positive = (power - (1 - p) * negative) / p
    _, noise, value = solved(0.0, 0.0, dim, gap, p, s)
    assert noise.negative_along == pytest.approx(negative, rel=1e-12)
    assert noise.positive_along == pytest.approx(positive, rel=1e-12)
    assert (noise.negative_across, noise.positive_across) == (0, 0)
    assert value == pytest.approx(((negative + gap) / positive + (positive + gap) / negative) / 2 - 1, rel=1e-9)


def test_closed_form_value():
    _, noise, value = solved(0.0, 0.0, 8, 1.0, 0.25, 4.0)
    assert noise.negative_along == pytest.approx(3.943618, abs=1e-6)
    assert noise.positive_along == pytest.approx(4.169147, abs=1e-6)
    assert value == pytest.approx(0.248263, abs=1e-6)


def test_divergence_is_that_of_gaussians():
    """The same two-way KL by matrices, from the textbook formula."""
    classes, noise = TwoClasses(0.3, 0.7, 2.0, 5, 0.2), Noise(0.9, 0.1, 0.5, 0.05)
    line = RANDOM.normal(size=5)
    line /= np.linalg.norm(line)
    outer, eye, shift = np.outer(line, line), np.eye(5), math.sqrt(classes.gap) * line
    negative = 0.5 * outer + 0.05 * (eye - outer) + 0.3 * eye
    positive = 0.9 * outer + 0.1 * (eye - outer) + 0.7 * eye

    def kl(left, right):
        inverse = np.linalg.inv(right)
        logs = np.log(np.linalg.det(right) / np.linalg.det(left))
        return (np.trace(inverse @ left) + shift @ inverse @ shift - 5 + logs) / 2

    assert sum_kl(classes, noise) == pytest.approx(kl(negative, positive) + kl(positive, negative), rel=1e-10)


def test_spends_the_budget_and_keeps_the_structure():
    for arguments in TUPLES:
        classes, noise, _ = solved(*arguments)
        power = arguments[5] * classes.gap
        assert noise.power(classes) == pytest.approx(power, rel=1e-9)
        assert noise.positive_along >= noise.positive_across >= 0
        assert noise.negative_along >= noise.negative_across >= 0
        assert (noise.positive_across if classes.u < classes.v else noise.negative_across) == 0


@pytest.mark.parametrize("most", [0.04, 0.16, 1.0])
def test_a_threshold_is_met_with_the_first_power_that_meets_it(most):
    for u, v, dim, gap, p, _ in TUPLES[:20]:
        classes = TwoClasses(u, v, gap, dim, p)
        powers = [0.1 * gap * 1.5**turn for turn in range(100)]
        first = next(power for power in powers if sum_kl(classes, least_sum_kl(classes, power)) <= most)
        found, wanted = noise_for(classes, 0.1 * gap, most), least_sum_kl(classes, first)
        assert found.power(classes) == pytest.approx(wanted.power(classes), rel=1e-9)


def test_each_batch_is_noised_to_its_own_threshold():
    stream = torch.Generator().manual_seed(1)
    labels = (torch.arange(400) % 10 == 0).long()
    for spread in (0.2, 2.0):
        body = torch.where(labels == 1, -1.0, 0.1)[:, None] * torch.ones(8)
        body = (body + spread * torch.randn(400, 8, generator=stream)).double()
        mean = body / 400  # as under a mean loss
        sent = [Marvell(s=0.1, sum_kl=0.3).apply(mean, {}, ctx(labels, seed))[0] * 400 - body for seed in range(200)]
        delta = body[labels == 1].mean(dim=0) - body[labels == 0].mean(dim=0)
        u, v = ((body[labels == k] - body[labels == k].mean(dim=0)).square().mean() for k in (0, 1))
        classes = TwoClasses(float(u), float(v), float(delta.square().sum()), 8, 0.1)
        wanted = noise_for(classes, 0.1 * classes.gap, 0.3)
        assert sum_kl(classes, wanted) <= 0.3
        found = float(torch.stack(sent).square().sum(dim=-1).mean())
        assert found == pytest.approx(wanted.power(classes), rel=0.05)


def test_more_power_always_hides_more():
    for u, v, dim, gap, p, _ in TUPLES[:10]:
        values = [solved(u, v, dim, gap, p, s)[2] for s in (0.1, 0.3, 1, 3, 10, 30)]
        assert all(later < earlier for earlier, later in pairwise(values))


@pytest.mark.parametrize("u", [0.0, 1e-300, 1e-6, 1e20])
@pytest.mark.parametrize("v", [0.0, 1e-30, 1e20])
@pytest.mark.parametrize("dim", [1, 64])
def test_extreme_variances_stay_feasible(u, v, dim):
    classes, noise, _ = solved(u, v, dim, 1.0, 0.001, 4.0)
    assert noise.power(classes) == pytest.approx(4.0, rel=1e-9)
    assert min(noise.positive_along - noise.positive_across, noise.negative_along - noise.negative_across) >= 0


def gaussian_batch(u, v, dim, gap, p, rows, seed=0):
    """A batch whose own statistics are the model's up to sampling error, and its labels."""
    stream = torch.Generator().manual_seed(1000 + seed)
    labels = (torch.arange(rows) < p * rows).long()
    spread = torch.where(labels == 1, math.sqrt(v), math.sqrt(u))[:, None]
    body = spread * torch.randn(rows, dim, generator=stream, dtype=torch.float64)
    body[:, 0] += math.sqrt(gap) * labels
    return body, labels


@pytest.mark.parametrize(("u", "v"), [(1e-2, 9e-2), (9e-2, 1e-2)])
def test_noise_has_the_solved_covariance(u, v):
    body, labels = gaussian_batch(u, v, 6, 1.0, 0.25, 400)
    ones, zeros = body[labels == 1].numpy(), body[labels == 0].numpy()
    delta = ones.mean(axis=0) - zeros.mean(axis=0)
    gap, line = delta @ delta, delta / np.linalg.norm(delta)
    _, noise, _ = solved(zeros.var(axis=0).mean(), ones.var(axis=0).mean(), 6, gap, 0.25, 0.5)
    draws = [Marvell(s=0.5).apply(body, {}, ctx(labels, seed))[0] - body for seed in range(400)]
    added = torch.stack(draws).numpy()
    basis = np.linalg.qr(np.column_stack([line, np.eye(6)[:, 1:]]))[0]
    for label, along, across in (
        (1, noise.positive_along, noise.positive_across),
        (0, noise.negative_along, noise.negative_across),
    ):
        turned = added[:, labels.numpy() == label].reshape(-1, 6) @ basis
        covariance = turned.T @ turned / len(turned)
        assert covariance[0, 0] == pytest.approx(along, rel=0.03)
        assert np.diag(covariance)[1:] == pytest.approx(across, rel=0.03, abs=1e-20)
        assert np.abs(covariance - np.diag(np.diag(covariance))).max() < 0.02 * along
    assert (added**2).sum(axis=2).mean() == pytest.approx(0.5 * gap, rel=0.02)


@pytest.mark.parametrize("s", [0.5, 2.0, 8.0])
def test_best_attack_on_the_model_stays_within_the_bound(s):
    u, v, dim, p, rows = 0.02, 0.05, 8, 0.25, 40_000
    body, labels = gaussian_batch(u, v, dim, 1.0, p, rows)
    classes, noise, value = solved(u, v, dim, 1.0, p, s)
    sent = Marvell(s=s).apply(body, {}, ctx(labels))[0].numpy()

    def log_density(along, across, centre):
        shifted = sent - centre * np.eye(dim)[0]
        squares = shifted[:, 0] ** 2 / along + (shifted[:, 1:] ** 2).sum(axis=1) / across
        return -(squares + math.log(along) + (dim - 1) * math.log(across)) / 2

    ratio = log_density(v + noise.positive_along, v + noise.positive_across, 1.0) - log_density(
        u + noise.negative_along, u + noise.negative_across, 0.0
    )
    best = roc_auc_score(labels.numpy(), ratio)
    assert 0.52 < best <= leak_auc_bound(value)
    assert classes.dim == dim


def test_bound_reference_case():
    """u = v = 0, p = .25, s = 4: the bound is .7181, and the likelihood ratio reaches .637."""
    rows = 60_000
    body, labels = gaussian_batch(0.0, 0.0, 3, 1.0, 0.25, rows)
    sent = Marvell(s=4.0).apply(body, {}, ctx(labels))[0][:, 0].numpy()
    positive, negative = 4.169147, 3.943618
    ratio = sent**2 / negative - (sent - 1) ** 2 / positive
    assert roc_auc_score(labels.numpy(), ratio) == pytest.approx(0.637, abs=0.01)
    assert leak_auc_bound(0.24826) == pytest.approx(0.7181, abs=1e-4)
    assert (leak_auc_bound(0.0), leak_auc_bound(4.0), leak_auc_bound(50.0)) == (0.5, 1.0, 1.0)


def test_norm_attack_loses_as_power_grows():
    """Gradients of a linear top are all on one line: lengths tell all undefended, and next to nothing in the end."""
    stream = torch.Generator().manual_seed(1000)
    labels = (torch.rand(4096, generator=stream) < 0.1).long()
    probability = (0.1 + 0.03 * torch.randn(4096, generator=stream)).clamp(0.01, 0.5)
    body = (probability - labels)[:, None] * torch.randn(16, generator=stream) / 4096

    def leak(sent):
        return roc_auc_score(labels.numpy(), sent.norm(dim=1).numpy())

    found = [leak(body)] + [leak(Marvell(s=s).apply(body, {}, ctx(labels))[0]) for s in (0.1, 0.4, 1.6, 6.4, 25.6)]
    assert found[0] == pytest.approx(1.0, abs=1e-4)
    assert all(later < earlier for earlier, later in pairwise(found))
    assert found[-1] == pytest.approx(0.5, abs=0.04)


def test_same_averages_the_variances_and_zero_drops_them():
    body, labels = gaussian_batch(1e-2, 9e-2, 6, 1.0, 0.25, 400)
    line = body[labels == 1].mean(dim=0) - body[labels == 0].mean(dim=0)
    for uv in ("same", "zero"):
        added = Marvell(s=1.0, uv=uv).apply(body, {}, ctx(labels))[0] - body
        across = added - (added @ line / (line @ line))[:, None] * line
        assert float(across.norm()) < 1e-12 * float(added.norm())


def test_same_is_solved_with_the_average():
    body, labels = gaussian_batch(1e-2, 0.6, 6, 1.0, 0.1, 1000)
    line = body[labels == 1].mean(dim=0) - body[labels == 0].mean(dim=0)
    average = sum(float(body[labels == k].var(dim=0, correction=0).mean()) for k in (0, 1)) / 2
    expected = solved(average, average, 6, float(line @ line), 0.1, 0.25)[1].positive_along
    sent = [(Marvell(s=0.25, uv="same").apply(body, {}, ctx(labels, k))[0] - body)[labels == 1] for k in range(400)]
    assert float(torch.stack(sent).square().sum(dim=2).mean()) == pytest.approx(expected, rel=0.02)


def test_batch_of_both_classes_goes_by_its_own_statistics():
    body, labels = gaussian_batch(1e-2, 9e-2, 6, 1.0, 0.25, 40)
    _, state = Marvell().apply(100 * body.flip(1), {}, ctx(labels))
    assert torch.equal(Marvell().apply(body, state, ctx(labels))[0], Marvell().apply(body, {}, ctx(labels))[0])


@pytest.mark.parametrize("label", [0, 1])
def test_batch_of_one_class_is_noised_by_its_own_mean_until_something_is_known(label):
    body, _ = gaussian_batch(1e-2, 9e-2, 6, 1.0, 0.25, 40)
    line, labels = body.mean(dim=0), torch.full((40,), label)
    sent = [Marvell(s=4.0).apply(body, {}, ctx(labels, seed)) for seed in range(400)]
    added = torch.stack([each - body for each, _ in sent])
    across = added - (added @ line / (line @ line))[..., None] * line
    assert float(across.abs().max()) < 1e-12
    assert float(added.square().sum(dim=2).mean()) == pytest.approx(4.0 * float(line @ line), rel=0.03)
    assert all(state == {} for _, state in sent)


def test_batch_of_one_class_is_noised_by_what_was_seen():
    """A last batch of half the rows: under a mean loss its gradients, and so its noise, are twice as long."""
    defense, rows = Marvell(s=2.0, uv="zero"), 200
    body, labels = gaussian_batch(1e-2, 9e-2, 6, 1.0, 0.25, rows)
    _, state = defense.apply(body, {}, ctx(labels))
    line = body[labels == 1].mean(dim=0) - body[labels == 0].mean(dim=0)
    gap = float(line @ line) * 4
    small, none = body[:100] * 0, torch.zeros(100).long()
    draws = [defense.apply(small, state, ctx(none, seed)) for seed in range(300)]
    length = torch.stack([sent for sent, _ in draws]).square().sum(dim=2).mean()
    assert float(length) == pytest.approx(solved(0, 0, 6, gap, 0.25, 2.0)[1].negative_along, rel=0.03)
    assert all(torch.equal(draws[0][1][name], state[name]) for name in state)


def test_statistics_are_a_moving_average():
    defense = Marvell(decay=0.75)
    state: dict[str, torch.Tensor] = {}
    expected = None
    for seed, p in enumerate((0.25, 0.5, 0.1)):
        body, labels = gaussian_batch(1e-2, 9e-2, 4, 1.0, p, 80, seed)
        _, state = defense.apply(body / len(body), state, ctx(labels))
        ones, zeros = body[labels == 1].numpy(), body[labels == 0].numpy()
        now = [*(ones.mean(0) - zeros.mean(0)), zeros.var(0).mean(), ones.var(0).mean(), p]
        expected = np.array(now) if expected is None else 0.75 * expected + 0.25 * np.array(now)
    found = np.concatenate([np.atleast_1d(state[name].numpy()) for name in ("delta", "u", "v", "p")])
    assert found == pytest.approx(expected, rel=1e-12)


def test_is_scale_free():
    body, labels = gaussian_batch(1e-2, 9e-2, 6, 1.0, 0.25, 40)
    sent, _ = Marvell().apply(body, {}, ctx(labels))
    scaled, _ = Marvell().apply(body * 1024, {}, ctx(labels))
    assert torch.allclose(scaled, sent * 1024, rtol=1e-9)


def test_needs_labels():
    with pytest.raises(ValueError, match="labels"):
        Marvell().apply(torch.ones(2, 2), {}, ctx(None))


@pytest.mark.parametrize(
    "options", [{"s": 0}, {"s": -1}, {"s": math.nan}, {"uv": "v"}, {"decay": 1.0}, {"decay": -0.1}]
)
def test_refuses_options_out_of_range(options):
    with pytest.raises(ValueError, match="got"):
        Marvell(**options)
