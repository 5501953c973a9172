"""Defenses inside networks: exact per-sample norms across the cut, closed forms of penalties, what passports hide."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from opacus import GradSampleModule
from scipy import stats
from scipy.spatial.distance import pdist, squareform
from torch import nn
from torch.distributions import Normal, kl_divergence

from vfl.defenses import LabelContext, PenaltyContext, SendContext
from vfl.defenses.adversarial import Adversarial
from vfl.defenses.cae import Cae
from vfl.defenses.dcae import Dcae
from vfl.defenses.dcor import Dcor, distance_correlation
from vfl.defenses.dp_sgd import DpSgd
from vfl.defenses.dropout import Dropout
from vfl.defenses.fedpass import Fedpass, PassportLinear
from vfl.defenses.mid import Mid, divergence
from vfl.defenses.pe_loss import PeLoss
from vfl.defenses.shredder import Shredder
from vfl.errors import ConfigError
from vfl.losses import classification_loss, probabilities
from vfl.models.mlp import Mlp
from vfl.seeds import Seeds
from vfl.types import Batch, Role, TableSchema

SCHEMA = TableSchema(("a", "b", "c"), ("d", "e"), (4, 6))
STREAM = torch.Generator().manual_seed(8)


def batch(rows=40, labels=None):
    ids = torch.stack([torch.randint(size, (rows,), generator=STREAM) for size in (4, 6)], dim=1)
    return Batch(torch.arange(rows), torch.randn(rows, 3, generator=STREAM), ids, labels)


def bottom():
    with Seeds(1).initialising("bottom"):
        return Mlp((16,), 5).bottom(SCHEMA, Role.PUBLISHER, 7)


def take(given, row):
    return Batch(given.rows[[row]], given.numeric[[row]], given.categorical[[row]])


def per_sample_loop(network, given, gradient):
    """The gradient of the weights of each row by itself, without the factor 1/rows."""
    found = []
    for row in range(len(given.rows)):
        network.zero_grad()
        network(take(given, row)).backward(gradient[[row]] * len(given.rows))
        found.append([parameter.grad.clone() for parameter in network.parameters()])
    network.zero_grad()
    return found


class TestShredder:
    def test_each_row_is_sent_with_one_vector_of_the_bank(self):
        given, bare = batch(), bottom()
        module = Shredder(bank=4).wrap(bottom(), Seeds(0))
        for noise in (module(given) - bare(given), module_without_learning(module, given) - bare(given)):
            apart = torch.cdist(noise.detach().double(), module.bank.detach().double())
            assert float(apart.min(dim=1).values.max()) < 1e-5
            assert len(apart.argmin(dim=1).unique()) == 4

    def test_noise_grows_by_the_weight_where_the_task_does_not_care(self):
        module = Shredder(weight=0.5, bank=4).wrap(bottom(), Seeds(0))
        sent = module(batch())
        sent.backward(torch.zeros_like(sent))
        assert torch.allclose(module.bank.grad, -0.5 * module.bank.sign() / module.bank.numel())

    def test_noise_starts_as_laplace_of_its_scale(self):
        bank = Shredder(scale=2.0, bank=20_000).wrap(bottom(), Seeds(0)).bank.detach()
        assert float(bank.abs().mean()) == pytest.approx(2.0, rel=0.02)
        assert float(bank.square().mean()) == pytest.approx(8.0, rel=0.04)


def module_without_learning(module, given):
    with torch.no_grad():
        return module(given)


class TestDpSgd:
    def test_without_noise_it_is_the_mean_of_clipped_gradients_of_a_loop(self):
        given, network = batch(), bottom()
        gradient = torch.randn(40, 7, generator=STREAM) / 40
        rows = per_sample_loop(network, given, gradient)
        norms = torch.tensor([sum(float(part.square().sum()) for part in row) ** 0.5 for row in rows])
        limit = float(norms.median())
        module = DpSgd(1e-9, limit).wrap(bottom(), Seeds(0))
        module(given).backward(gradient)
        for place, parameter in enumerate(module.parameters()):
            clipped = sum(row[place] * min(1, limit / norm) for row, norm in zip(rows, norms, strict=True)) / 40
            assert float((parameter.grad - clipped).abs().max()) < 1e-6

    @pytest.mark.filterwarnings("ignore:Full backward hook:UserWarning")
    def test_per_sample_gradients_are_opacuss(self):
        given = batch()
        gradient = torch.randn(40, 7, generator=STREAM) / 40
        theirs = GradSampleModule(bottom(), loss_reduction="mean")
        theirs(given).backward(gradient)
        flat = torch.cat([parameter.grad_sample.flatten(1) for parameter in theirs.parameters()], dim=1)
        limit = float(flat.norm(dim=1).median())
        scaled = flat * (limit / flat.norm(dim=1)).clamp(max=1)[:, None]
        module = DpSgd(1e-9, limit).wrap(bottom(), Seeds(0))
        module(given).backward(gradient)
        ours = torch.cat([parameter.grad.flatten() for parameter in module.parameters()])
        assert float((ours - scaled.mean(dim=0)).abs().max()) < 1e-6

    def test_ids_that_repeat_in_a_row_and_sequences_count_together(self):
        class Repeats(nn.Module):
            def __init__(self):
                super().__init__()
                self.table, self.layer = nn.Embedding(3, 4), nn.Linear(4, 2)

            def forward(self, given):
                return self.layer(self.table(given.categorical)).sum(dim=1)

        with Seeds(2).initialising("net"):
            network, twin = Repeats(), Repeats()
        twin.load_state_dict(network.state_dict())
        ids = torch.randint(3, (20, 5), generator=STREAM)
        given = Batch(torch.arange(20), torch.zeros(20, 0), ids)
        gradient = torch.randn(20, 2, generator=STREAM) / 20
        rows = per_sample_loop(twin, given, gradient)
        module = DpSgd(1e-9, 0.1).wrap(network, Seeds(0))
        module(given).backward(gradient)
        for place, parameter in enumerate(module.parameters()):
            norms = [sum(float(part.square().sum()) for part in row) ** 0.5 for row in rows]
            clipped = sum(row[place] * min(1, 0.1 / norm) for row, norm in zip(rows, norms, strict=True)) / 20
            assert float((parameter.grad - clipped).abs().max()) < 1e-6

    def test_noise_has_the_std_that_the_ledger_counts(self):
        """Of 501,000 draws the std is good to a thousandth: noise 2 % low, and an epsilon with it, would show."""
        module = DpSgd(4.0, 0.5).wrap(nn.Linear(500, 1000), Seeds(0))
        module(torch.zeros(50, 500)).backward(torch.zeros(50, 1000))
        noise = torch.cat([parameter.grad.flatten() for parameter in module.parameters()])
        assert float(noise.std()) == pytest.approx(4.0 * 0.5 / 50, rel=4 / (2 * len(noise)) ** 0.5)
        assert stats.kstest(noise.numpy()[::50] / (4.0 * 0.5 / 50), "norm").pvalue > 0.01

    @pytest.mark.parametrize("layer", [nn.BatchNorm1d(3), nn.LayerNorm(3), nn.Conv1d(1, 1, 1)])
    def test_layers_without_exact_norms_are_refused(self, layer):
        with pytest.raises(ConfigError, match="linear and embedding"):
            DpSgd().wrap(nn.Sequential(nn.Linear(3, 3), layer), Seeds(0))

    def test_a_layer_used_twice_is_refused(self):
        layer = nn.Linear(3, 3)
        with pytest.raises(ConfigError, match="twice"):
            DpSgd().wrap(nn.Sequential(layer, nn.ReLU(), layer), Seeds(0))(torch.zeros(2, 3))


def test_dropout_keeps_the_mean_and_drops_the_share():
    module = Dropout(0.3).wrap(nn.Identity(), Seeds(0))
    found = module(torch.ones(2000, 50))
    assert float((found == 0).float().mean()) == pytest.approx(0.3, abs=0.01)
    assert float(found.mean()) == pytest.approx(1.0, abs=0.01)


class TestMid:
    def test_divergence_is_torchs(self):
        mean, std = torch.randn(30, 5, generator=STREAM), torch.rand(30, 5, generator=STREAM) + 0.1
        expected = kl_divergence(Normal(mean, std), Normal(0.0, 1.0)).sum(dim=1).mean()
        assert float(divergence(mean, std)) == pytest.approx(float(expected), rel=1e-5)

    @pytest.mark.parametrize("at", ["bottom", "top"])
    def test_weight_adds_its_divergence_to_any_loss(self, at):
        given = batch() if at == "bottom" else torch.randn(40, 7, generator=STREAM)

        def gradients(weight):
            network = bottom() if at == "bottom" else nn.Linear(7, 1)
            with Seeds(5).initialising("mid"):
                if at == "top":
                    network = nn.Linear(7, 1)
                module = Mid(weight, at).wrap(network, Seeds(0))
            output = module(given)
            output.backward(torch.ones_like(output) / 40)
            return module, {name: value.grad for name, value in module.named_parameters() if value.grad is not None}

        module, none = gradients(0.0)
        _, some = gradients(0.3)
        neck = module.second if at == "bottom" else module.first
        inner = module.first(given) if at == "bottom" else given
        mean, spread = neck.encoder(inner).chunk(2, dim=1)
        module.zero_grad()
        (0.3 * divergence(mean, torch.nn.functional.softplus(spread - 0.5))).backward()
        for name, parameter in module.named_parameters():
            added = parameter.grad if parameter.grad is not None else torch.zeros_like(parameter)
            assert torch.allclose(some[name], none[name] + added, atol=1e-6), name

    def test_more_weight_leaves_less_information(self):
        x = torch.randn(500, 4, generator=STREAM)
        left = []
        for weight in (0.0, 0.01, 1.0):
            with Seeds(5).initialising("mid"):
                bottom_net, head = nn.Linear(4, 3), nn.Linear(3, 1)
                module = Mid(weight).wrap(bottom_net, Seeds(0))
            optimizer = torch.optim.Adam([*module.parameters(), *head.parameters()], lr=0.02)
            for _ in range(100):
                optimizer.zero_grad()
                classification_loss(head(module(x)), (x[:, 0] > 0).long()).backward()
                optimizer.step()
            mean, spread = module.second.encoder(module.first(x)).detach().chunk(2, dim=1)
            left.append(float(divergence(mean, torch.nn.functional.softplus(spread - 0.5))))
        assert left[0] > left[1] > left[2]


class TestDistanceCorrelation:
    def test_is_one_for_a_rotated_scaled_shifted_copy(self):
        x = torch.randn(60, 3, generator=STREAM, dtype=torch.float64)
        rotation = torch.linalg.qr(torch.randn(3, 3, generator=STREAM, dtype=torch.float64))[0]
        assert float(distance_correlation(x, 2.5 * x @ rotation + 1)) == pytest.approx(1.0, abs=1e-6)

    def test_is_the_definition_with_scipys_distances(self):
        x, y = torch.randn(50, 3, generator=STREAM), torch.randn(50, 2, generator=STREAM)
        y[:, 0] += x[:, 1]

        def centred(points):
            d = squareform(pdist(points.double().numpy()))
            return d - d.mean(0) - d.mean(1)[:, None] + d.mean()

        a, b = centred(x), centred(y)
        expected = np.sqrt((a * b).mean() / np.sqrt((a * a).mean() * (b * b).mean()))
        assert float(distance_correlation(x.double(), y.double())) == pytest.approx(expected, rel=1e-6)

    def test_independent_samples_show_the_known_bias(self):
        found = [float(distance_correlation(*torch.randn(2, 500, 3, generator=STREAM))) for _ in range(10)]
        assert np.mean(found) == pytest.approx(0.14, abs=0.015)

    @pytest.mark.parametrize("protects", ["features", "labels"])
    def test_following_it_downhill_hides(self, protects):
        given = batch(60, torch.randint(2, (60,), generator=STREAM))
        ctx = PenaltyContext(0, torch.Generator(), given, 2)
        other = given.numeric if protects == "features" else torch.eye(2)[given.labels]
        h = (other @ torch.randn(other.shape[1], 4, generator=STREAM)).requires_grad_()
        before = float(distance_correlation(h.detach(), other))
        optimizer = torch.optim.Adam([h], lr=0.1)
        for _ in range(60):
            optimizer.zero_grad()
            Dcor(1.0, protects).penalty(h, ctx).backward()
            optimizer.step()
        assert float(distance_correlation(h.detach(), other)) < before - 0.3


def test_energy_is_a_slow_sum_and_pushes_a_class_apart():
    labels = torch.tensor([0, 1] * 10)
    h = torch.randn(20, 5, generator=STREAM, dtype=torch.float64).requires_grad_()
    ctx = PenaltyContext(0, torch.Generator(), batch(20, labels), 2)
    even = (h - h.mean(1, keepdim=True)) / (h.var(1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    expected = 0.0
    for each in (0, 1):
        rows = even[labels == each]
        terms = [
            1 / (((a - b).square().sum() + 0.04).sqrt().item() + 0.2)
            for i, a in enumerate(rows)
            for j, b in enumerate(rows)
            if i != j
        ]
        expected += sum(terms) / len(terms)
    found = PeLoss(3.0, softening=0.2).penalty(h, ctx)
    assert found.item() == pytest.approx(3.0 * expected, rel=1e-6)


def test_the_opponent_learns_and_the_bottom_unlearns():
    """Its loss falls for the decoder's weights and rises along the bottom's: one gradient, two signs."""
    given = batch()
    with Seeds(3).initialising("x"):
        module = Adversarial(weight=2.0).wrap(bottom(), Seeds(0))
    module(given).backward(torch.zeros(40, 7))
    reversed_ = {name: value.grad.clone() for name, value in module.named_parameters()}
    module.zero_grad()
    entered = []
    first = next(part for part in module.bottom.modules() if isinstance(part, nn.Linear))
    first.register_forward_pre_hook(lambda layer, inputs: entered.append(inputs[0].detach()))
    rebuilt = module.decoder(module.bottom(given))
    (rebuilt - entered[0]).square().mean().backward()
    for name, parameter in module.named_parameters():
        sign = 1 if name.startswith("decoder") else -2
        assert torch.allclose(reversed_[name], sign * parameter.grad, atol=1e-6), name


class TestFedpass:
    def test_is_its_formula(self):
        linear, secrets = nn.Linear(4, 3), torch.randn(2, 5, 4, generator=STREAM)
        layer = PassportLinear(linear, secrets)
        x = torch.randn(6, 4, generator=STREAM)
        gamma, beta = (
            torch.stack(
                [layer.decode(torch.nn.functional.leaky_relu(layer.encode(linear.weight @ s))) for s in part]
            ).mean(0)
            for part in secrets
        )
        assert torch.allclose(layer(x), gamma * (linear.weight @ x.T + linear.bias[:, None]).T + beta, atol=1e-5)

    def test_without_its_passports_the_network_does_not_work(self):
        x = torch.randn(600, 6, generator=STREAM)
        labels = (x[:, 0] + x[:, 1] > 0).long()
        with Seeds(4).initialising("net"):
            network = Fedpass("top").wrap(nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 1)), Seeds(0))
        optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
        for _ in range(300):
            optimizer.zero_grad()
            classification_loss(network(x), labels).backward()
            optimizer.step()

        def accuracy():
            with torch.no_grad():
                return float((probabilities(network(x)).argmax(dim=1) == labels).float().mean())

        right, wrong = accuracy(), []
        layer = network[0]
        for seed in range(20):
            layer.secrets.copy_(Fedpass("top")._drawn(layer.linear, Seeds(100 + seed)))
            wrong.append(accuracy())
        assert right > 0.95
        assert np.mean(wrong) < 0.75


class TestCae:
    @pytest.mark.parametrize("classes", [2, 3, 5])
    def test_soft_labels_point_elsewhere_and_decode_back(self, classes):
        labels = torch.arange(classes)
        defense, seeds = Cae(), Seeds(1)
        soft = defense.transform(labels, LabelContext(seeds, classes, 0, lambda y, rows: y))
        assert (soft.argmax(dim=1) != labels).all()
        logits = soft.log() if classes > 2 else (soft[:, 1:] / soft[:, :1]).log()
        top = defense.wrap(Fixed(logits), seeds)
        with torch.no_grad():
            decoded = probabilities(top(torch.zeros(classes, 1)))
        assert torch.equal(decoded.argmax(dim=1), labels)
        assert torch.equal(top(torch.zeros(classes, 1)), logits)

    @pytest.mark.parametrize("classes", [2, 5])
    def test_its_discrete_form_is_both_by_hand(self, classes):
        """Labels are the auto-encoder's; gradients over 2 bins within half a deviation are -b, 0 or b."""
        options = {"entropy": 3.0, "bins": 2, "spread": 0.5}
        both, labels, seeds = Dcae(**options), torch.arange(classes), Seeds(1)
        ctx = LabelContext(seeds, classes, 0, lambda y, rows: y)
        assert torch.equal(both.transform(labels, ctx), Cae(3.0).transform(labels, ctx))
        body = torch.tensor([[3.0, -4.0], [0.1, 0.0]])
        bound = 0.5 * float((body**2).mean().sqrt())
        sent, _ = both.apply(body, both.init(), SendContext(0, torch.Generator(), None, classes))
        assert sent.flatten().tolist() == pytest.approx([bound, -bound, 0.0, 0.0])

    def test_more_entropy_is_less_sure(self):
        def spread(weight):
            soft = Cae(weight).transform(torch.arange(4), LabelContext(Seeds(1), 4, 0, lambda y, rows: y))
            return float(-(soft * soft.log()).sum(dim=1).mean())

        assert spread(5.0) > spread(0.0)


class Fixed(nn.Module):
    def __init__(self, logits):
        super().__init__()
        self.logits, self.bias = logits, nn.Parameter(torch.zeros(logits.shape[1]))

    def forward(self, joined):
        return self.logits
