"""Label inference against closed forms: gradients and embeddings whose leak is known."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import norm as normal
from sklearn.metrics import roc_auc_score
from torch.nn import functional

from vfl.attacks.batch_inversion import BatchInversion
from vfl.attacks.clustering import Clustering
from vfl.attacks.direct_label_inference import DirectLabelInference
from vfl.attacks.exploit import Exploit
from vfl.attacks.hint_norm import HintNorm
from vfl.attacks.likelihood_ratio import LikelihoodRatio
from vfl.attacks.model_completion import ModelCompletion
from vfl.attacks.property_inference import PropertyInference
from vfl.attacks.residue import Residue, solve
from vfl.attacks.spectral import Spectral
from vfl.attacks.unsplit_label import UnsplitLabel
from vfl.transcript import AdversaryView, Hints, Holding
from vfl.types import Batch, Envelope, Kind, TableSchema

PARTY = "publisher_1"


class Linear(torch.nn.Module):
    """A bottom of one matrix on the numeric columns."""

    def __init__(self, weight) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, batch: Batch):
        return batch.numeric @ self.weight


def stream(seed=0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def envelopes(kind, body, size):
    """Rows in order, `size` a step, of a mean loss: each body divided by its batch's rows."""
    parts = torch.arange(len(body)).split(size)
    ends = (PARTY, "advertiser") if kind == Kind.EMBEDDING else ("advertiser", PARTY)
    scale = 1 if kind == Kind.EMBEDDING else size
    return tuple(Envelope(step, kind, *ends, rows, body[rows] / scale) for step, rows in enumerate(parts))


def view(gradients=None, embeddings=None, *, size=100, classes=2, own=None, **hints) -> AdversaryView:
    received = () if gradients is None else envelopes(Kind.GRADIENT, gradients, size)
    sent = () if embeddings is None else envelopes(Kind.EMBEDDING, embeddings, size)
    return AdversaryView((PARTY,), classes, sent, received, Hints(**hints), own={PARTY: own} if own else {})


def holding(numeric, weight=None, fresh=None) -> Holding:
    rows = torch.arange(len(numeric))
    schema = TableSchema(tuple(f"x{place}" for place in range(numeric.shape[1])))
    bottom = None if weight is None else Linear(weight)
    batch = Batch(rows, numeric, torch.zeros(len(rows), 0, dtype=torch.int64))
    return Holding(batch, schema, bottom, None if fresh is None else Linear(fresh))


def auc(guess, labels) -> float:
    scores = guess.scores if guess.scores.ndim == 1 else guess.scores[:, 1] - guess.scores[:, 0]
    return float(roc_auc_score(labels[guess.rows], scores))


def accuracy(guess, labels) -> float:
    return float((guess.scores.argmax(dim=1) == labels[guess.rows]).double().mean())


def one_logit(rows=3000, dim=6, base_rate=0.1, seed=0):
    """Embeddings, labels, and each row's gradient (p - y) w under a linear top that has learned a little."""
    draw = stream(seed)
    h = torch.randn(rows, dim, generator=draw)
    w = torch.randn(dim, generator=draw)
    logits = h @ w / w.norm() * 1.5 + math.log(base_rate / (1 - base_rate))
    labels = (torch.rand(rows, generator=draw) < logits.sigmoid()).long()
    return h, labels, (logits.sigmoid() - labels)[:, None] * w


@pytest.mark.parametrize("classes", [3, 10])
def test_direct_inference_is_exact_on_added_logits_and_not_under_a_dense_top(classes):
    draw = stream(classes)
    logits = torch.randn(2000, classes, generator=draw)
    labels = torch.randint(0, classes, (2000,), generator=draw)
    gradient = logits.softmax(dim=1) - functional.one_hot(labels, classes)
    assert ((gradient < 0).sum(dim=1) == 1).all()
    attack = DirectLabelInference()
    assert accuracy(attack.infer(view(gradient, classes=classes), draw), labels) == 1.0
    mixed = gradient @ torch.randn(classes, classes, generator=draw)
    assert accuracy(attack.infer(view(mixed, classes=classes), draw), labels) < 0.8


def test_direct_inference_reads_the_sign_of_one_logit():
    _, labels, gradient = one_logit(dim=1)
    sign = gradient / gradient.abs().max() * torch.sign(gradient[0] * (0.5 - labels[0]))
    assert accuracy(DirectLabelInference().infer(view(sign), stream()), labels) == 1.0


def test_residues_are_exact_up_to_as_many_rows_as_columns():
    draw = stream()
    for rows, columns, exact in ((64, 80, True), (80, 80, True), (200, 80, False)):
        design = torch.randn(rows, columns, generator=draw, dtype=torch.float64)
        residue = torch.rand(rows, 1, generator=draw, dtype=torch.float64) - (torch.arange(rows)[:, None] % 2)
        error = (solve(design, residue) - residue).abs().max()
        assert (error < 1e-8) == exact
        right = ((solve(design, residue) < 0) == (residue < 0)).double().mean()
        assert (right == 1.0) if exact else (0.6 < right < 0.95)


def test_residue_attack_reads_weight_gradients_only():
    """Gradients changed within a batch in the null space of its columns leave the guess as it is."""
    draw = stream()
    numeric = torch.randn(300, 10, generator=draw)
    gradient = torch.randn(300, 1, generator=draw)
    null = torch.linalg.svd(numeric[:100].T.double()).Vh[-1].float()
    moved = gradient.clone()
    moved[:100, 0] += 5 * null
    first, second = (Residue().infer(view(each, own=holding(numeric)), draw).scores for each in (gradient, moved))
    assert torch.allclose(first, second, atol=1e-3)


def test_batch_inversion_recovers_a_batch_of_no_more_rows_than_columns():
    """The weight gradient of 30 rows on 40 columns pins each residue down; that of 300 rows does not."""
    draw, found = stream(), {}
    for rows in (30, 300):
        design, h = torch.randn(rows, 40, generator=draw).double(), torch.randn(rows, 4, generator=draw).double()
        labels = torch.randint(0, 4, (rows,), generator=draw)
        others = torch.randn(rows, 4, generator=draw).double()
        residue = (h + others).softmax(dim=1) - functional.one_hot(labels, 4)
        guess = BatchInversion(steps=500).invert(design, h, residue, draw)
        found[rows] = float((guess.argmax(dim=1) == labels).double().mean())
        moved = residue + torch.linalg.svd(design.T).Vh[-1][:, None] * (rows > 40)
        again = BatchInversion(steps=20).invert(design, h, moved, stream(3))
        same = BatchInversion(steps=20).invert(design, h, residue, stream(3))
        assert torch.allclose(again, same, atol=1e-4)
    assert found[30] > 0.95
    assert 0.3 < found[300] < 0.9


def test_likelihood_ratio_reaches_the_optimum_of_two_gaussians():
    """Equal covariances a gap d apart (in their own metric): the best AUC is Phi(d / sqrt 2)."""
    draw = stream()
    labels = (torch.rand(20000, generator=draw) < 0.3).long()
    mix = torch.randn(4, 4, generator=draw)
    gap = torch.tensor([1.0, 0.5, 0.0, -0.5])
    gradient = (torch.randn(20000, 4, generator=draw) + labels[:, None] * gap) @ mix
    told = view(gradient, rows=torch.arange(20000), labels=labels)
    assert auc(LikelihoodRatio().infer(told, draw), labels) == pytest.approx(normal.cdf(gap.norm() / 2**0.5), abs=0.01)


def test_likelihood_ratio_tells_variances_apart():
    draw = stream()
    labels = (torch.rand(4000, generator=draw) < 0.3).long()
    gradient = torch.randn(4000, 4, generator=draw) * (1 + 3 * labels[:, None])
    some = torch.arange(200)
    assert auc(LikelihoodRatio(200).infer(view(gradient, rows=some, labels=labels[some]), draw), labels) > 0.95


def test_hint_norm_is_the_distance_to_the_nearest_known_gradients():
    draw = stream()
    body = torch.randn(8, 3, generator=draw)
    told = view(body, size=8, rows=torch.tensor([1, 5, 6]), labels=torch.tensor([1, 0, 0]))
    guess = HintNorm(3).infer(told, draw)
    for row, score in zip(guess.rows.tolist(), guess.scores.tolist(), strict=True):
        ones, zeros = (min(float((body[row] - body[k]).norm()) for k in known) for known in ((1,), (5, 6)))
        assert score == pytest.approx(zeros - ones, abs=1e-5)
    assert guess.rows.tolist() == [0, 2, 3, 4, 7]


@pytest.mark.parametrize("prior", [0.1, 0.9])
def test_spectral_finds_the_rarer_cluster_and_names_it_by_the_prior(prior):
    draw = stream()
    labels = (torch.rand(3000, generator=draw) < prior).long()
    numeric = torch.randn(3000, 5, generator=draw)
    numeric[:, 0] += 6.0 * labels
    shares = torch.tensor([1 - prior, prior], dtype=torch.float64)
    guess = Spectral().infer(view(own=holding(numeric, torch.eye(5)), prior=shares), draw)
    assert auc(guess, labels) > 0.99


@pytest.mark.parametrize("on", ["gradients", "embeddings"])
def test_clusters_are_named_by_known_rows_and_nothing_else(on):
    h, labels, gradient = one_logit(base_rate=0.3)
    numeric = h + 4 * (2 * labels[:, None] - 1)
    rows = torch.cat([(labels == c).nonzero()[:5, 0] for c in (0, 1)])
    swapped = [
        Clustering(on=on).infer(view(gradient, own=holding(numeric, torch.eye(6)), rows=rows, labels=told), stream())
        for told in (labels[rows], 1 - labels[rows])
    ]
    assert auc(swapped[0], labels) > 0.98
    assert auc(swapped[1], labels) < 0.02


@pytest.mark.parametrize("head", ["head_only", "mixmatch"])
def test_model_completion_finishes_a_trained_bottom_and_its_control_does_not(head):
    draw = stream()
    labels = (torch.rand(3000, generator=draw) < 0.4).long()
    numeric = torch.randn(3000, 30, generator=draw)
    numeric[:, 0] += 3.5 * labels
    learned = torch.zeros(30, 4)
    learned[0] = 1.0
    learned += 0.05 * torch.randn(30, 4, generator=draw)
    fresh = torch.randn(30, 4, generator=draw)
    fresh[0] = 0.0
    rows = torch.arange(40)
    told = view(own=holding(numeric, learned, fresh), rows=rows, labels=labels[rows])
    guess = ModelCompletion(40, head).infer(told, draw)
    assert accuracy(guess, labels) > 0.9
    control = guess.controls["random_bottom"]
    assert roc_auc_score(labels[guess.rows], control[:, 1] - control[:, 0]) < 0.75


@pytest.mark.parametrize("attack", [Exploit(rows=1000), UnsplitLabel()], ids=["exploit", "unsplit_label"])
def test_replay_attacks_recover_labels_under_a_linear_top(attack):
    h, labels, gradient = one_logit(base_rate=0.2)
    prior = torch.bincount(labels).double() / len(labels)
    guess = attack.infer(view(gradient, h, prior=prior), stream())
    assert auc(guess, labels) > 0.97
    assert accuracy(guess, labels) > 0.7


def test_exploit_differentiates_its_matching_term_through_the_surrogate():
    draw = stream()
    top = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2)).double()
    h, g = (torch.randn(20, 3, generator=draw, dtype=torch.float64) for _ in range(2))
    logits = torch.randn(20, 2, generator=draw, dtype=torch.float64)
    prior, unit = torch.tensor([0.7, 0.3], dtype=torch.float64), torch.tensor(1.0, dtype=torch.float64)
    attack = Exploit(grad_weight=1.0, ce_weight=0.0, prior_weight=0.0)

    def loss():
        return attack.objective(top, logits, (h, g, unit), prior)

    weight = top[0].weight
    (slope,) = torch.autograd.grad(loss(), weight)
    assert slope.abs().max() > 1e-3
    for place in ((0, 0), (3, 2)):
        with torch.no_grad():
            weight[place] += 1e-5
        above = float(loss().detach())
        with torch.no_grad():
            weight[place] -= 2e-5
        below = float(loss().detach())
        with torch.no_grad():
            weight[place] += 1e-5
        assert float(slope[place]) == pytest.approx((above - below) / 2e-5, rel=1e-3)


@pytest.mark.parametrize("base_rate", [0.1, 0.7])
def test_label_shares_follow_from_mean_gradients(base_rate):
    _, labels, gradient = one_logit(rows=10000, base_rate=base_rate)
    prior = torch.bincount(labels).double() / len(labels)
    guess = PropertyInference().infer(view(gradient, prior=prior), stream())
    true = labels.double().view(-1, 100).mean(dim=1)
    guessed = guess.scores.view(-1, 100)[:, 0]
    assert torch.corrcoef(torch.stack([true, guessed]))[0, 1] > 0.8
    assert (guessed - true).abs().mean() < (true - true.mean()).abs().mean()
