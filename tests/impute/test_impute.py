"""Imputers: closed forms, another library, and what a Gaussian conditional must come out as."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsRegressor
from torch.distributions import Normal, kl_divergence

from tests.contracts.members import IMPUTERS, cases, label
from vfl.impute.cvae import gaussian_kl
from vfl.impute.diffusion import alpha_bars, ddim, noise_to
from vfl.impute.gan import judge_loss, maker_loss
from vfl.registry import build, names


def stream(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


SLOPE = torch.tensor([[1.0, -0.5], [0.3, 0.8]])
SHIFT = torch.tensor([2.0, -1.0])
NOISE = 0.3


def linear_rows(rows: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What is missing is a linear function of what is given, plus Gaussian noise; classes by the first column."""
    given = torch.randn(rows, 2, generator=stream(seed))
    missing = given @ SLOPE + SHIFT + NOISE * torch.randn(rows, 2, generator=stream(seed + 1))
    return given, missing, (given[:, 0] > 0).long()


def test_every_member_has_a_row():
    assert sorted(IMPUTERS) == names("impute")


@pytest.fixture(params=cases(IMPUTERS), ids=label)
def imputer(request):
    return build("impute", request.param)


def test_the_contract(imputer):
    """The right shape, nothing but the generator drawn from, nothing changed in place, a state of tensors."""
    given, missing, labels = linear_rows(30)
    before = [value.clone() for value in (given, missing, labels)]
    torch.manual_seed(0)
    untouched = torch.get_rng_state()
    state = imputer.fit(given, missing, labels, stream(1))
    copied = {name: torch.tensor(value.tolist(), dtype=value.dtype) for name, value in state.items()}
    found = imputer.transform(given[:7], labels[:7], state, stream(2))
    assert found.shape == (7, 2)
    assert found.dtype == torch.float32
    assert torch.isfinite(found).all()
    assert not found.requires_grad
    assert torch.equal(found, imputer.transform(given[:7], labels[:7], copied, stream(2)))
    assert torch.equal(torch.get_rng_state(), untouched)
    assert all(torch.equal(old, new) for old, new in zip(before, (given, missing, labels), strict=True))
    assert imputer.transform(given[:0], labels[:0], state, stream(2)).shape == (0, 2)
    unknown = imputer.transform(given[:7], torch.full((7,), -1), state, stream(2))
    assert torch.equal(unknown, found) or imputer.needs_labels


def test_one_row_is_enough(imputer):
    given, missing, labels = linear_rows(1)
    state = imputer.fit(given, missing, labels, stream())
    assert torch.isfinite(imputer.transform(linear_rows(5)[0], torch.zeros(5).long(), state, stream())).all()


def test_class_means_are_means_by_class():
    given, missing, labels = linear_rows(50)
    member = build("impute", "class_mean")
    state = member.fit(given, missing, labels, stream())
    found = member.transform(given[:3], torch.tensor([0, 1, -1]), state, stream())
    expected = [missing[labels == 0].mean(0), missing[labels == 1].mean(0), missing.mean(0)]
    torch.testing.assert_close(found, torch.stack(expected))


def test_knn_is_scikit_learns():
    given, missing, labels = linear_rows(200)
    member = build("impute", {"name": "knn", "neighbours": 7})
    asked = linear_rows(40, seed=5)[0]
    found = member.transform(asked, labels, member.fit(given, missing, labels, stream()), stream())
    theirs = KNeighborsRegressor(7).fit(given.numpy(), missing.numpy()).predict(asked.numpy())
    np.testing.assert_allclose(found.numpy(), theirs, atol=1e-5)


@pytest.mark.parametrize("spec", [{"name": "regression"}, {"name": "cvae", "samples": 20}], ids=label)
def test_the_conditional_mean_is_found(spec):
    """Near the regression line: the error left beside it is a fraction of the noise, the constant's is not."""
    given, missing, labels = linear_rows(2000)
    asked, _, unknown = linear_rows(500, seed=9)
    member = build("impute", spec)
    found = member.transform(asked, unknown, member.fit(given, missing, labels, stream()), stream(3))
    line = asked @ SLOPE + SHIFT
    assert (found - line).square().mean().sqrt() < 0.5 * NOISE
    assert (missing.mean(0) - line).square().mean().sqrt() > 2 * NOISE


def test_gaussian_kl_is_torchs():
    parts = torch.randn(4, 6, 3, generator=stream())
    ours = gaussian_kl((parts[0], parts[1]), (parts[2], parts[3]))
    theirs = kl_divergence(Normal(parts[0], parts[1].exp()), Normal(parts[2], parts[3].exp())).sum(dim=1)
    torch.testing.assert_close(ours, theirs)


def test_gan_losses_by_hand():
    real, made = torch.tensor([[2.0], [0.0]]), torch.tensor([[-1.0], [1.0]])
    sigmoid = torch.sigmoid
    torch.testing.assert_close(judge_loss(real, made), -sigmoid(real).log().mean() - (1 - sigmoid(made)).log().mean())
    torch.testing.assert_close(maker_loss(made), -sigmoid(made).log().mean())


def test_noising_has_the_moments_of_the_closed_form():
    """Going step by step, x_t = sqrt(1 - beta_t) x_{t-1} + sqrt(beta_t) noise, ends where one jump does."""
    kept = alpha_bars(100)
    betas = 1 - kept / torch.cat([torch.ones(1), kept[:-1]])
    values, noise = torch.full((100_000,), 1.5), stream()
    for beta in betas[:40]:
        values = (1 - beta).sqrt() * values + beta.sqrt() * torch.randn(len(values), generator=noise)
    jump = noise_to(torch.full((100_000,), 1.5), torch.randn(100_000, generator=stream(1)), kept[39])
    for found in (values, jump):
        assert found.mean().item() == pytest.approx(1.5 * kept[39].sqrt().item(), abs=0.01)
        assert found.var().item() == pytest.approx(1 - kept[39].item(), rel=0.02)
    assert alpha_bars(1000)[0] > 0.999
    assert alpha_bars(1000)[-1] < 1e-3


def test_the_sampler_recovers_a_gaussian_from_its_exact_denoiser():
    """For N(m, C) the expected clean value is m + sqrt(kept) C (kept C + (1 - kept) I)^-1 (x - sqrt(kept) m)."""
    mean = torch.tensor([1.0, -2.0], dtype=torch.float64)
    covariance = torch.tensor([[1.0, 0.6], [0.6, 0.5]], dtype=torch.float64)
    kept = alpha_bars(1000).double()

    def denoise(values: torch.Tensor, time: int) -> torch.Tensor:
        k = kept[time]
        gain = k.sqrt() * covariance @ torch.linalg.inv(k * covariance + (1 - k) * torch.eye(2, dtype=torch.float64))
        return mean + (values - k.sqrt() * mean) @ gain.T

    start = torch.randn(40_000, 2, generator=stream(), dtype=torch.float64)
    found = ddim(denoise, start, kept, 200)
    torch.testing.assert_close(found.mean(0), mean, rtol=0, atol=0.03)
    torch.testing.assert_close(torch.cov(found.T), covariance, rtol=0, atol=0.03)


def test_a_fitted_diffusion_recovers_a_gaussian_conditional():
    given, missing, labels = linear_rows(3000)
    member = build("impute", {"name": "diffusion", "timesteps": 200, "sampling_steps": 50, "drop": 0.0})
    state = member.fit(given, missing, labels, stream())
    asked = torch.tensor([[0.5, -1.0]]).expand(4000, 2)
    found = member.transform(asked, labels, state, stream(4))
    torch.testing.assert_close(found.mean(0), asked[0] @ SLOPE + SHIFT, rtol=0, atol=0.12)
    assert found.std(0).tolist() == pytest.approx([NOISE, NOISE], rel=0.35)
    assert abs(torch.corrcoef(found.T)[0, 1].item()) < 0.25


def test_guidance_goes_on_from_what_nothing_tells_through_what_the_condition_tells(monkeypatch):
    """A network that says 2 where it is shown something, .5 where not acts, guided, as one of 2 + 1.5 w does."""
    labels, given = torch.arange(200) % 2, torch.randn(200, 1, generator=stream())
    fitted = build("impute", {"name": "diffusion", "steps": 1}).fit(given, given, labels, stream())
    drawn = []
    for guidance, told, untold in ((2.0, 2.0, 0.5), (0.0, 5.0, 0.0)):

        def predict(state, noised, times, known, timesteps, told=told, untold=untold):
            return torch.where(known.abs().sum(dim=1, keepdim=True) > 0, told, untold).expand_as(noised)

        monkeypatch.setattr("vfl.impute.diffusion._predict", predict)
        member = build("impute", {"name": "diffusion", "guidance": guidance})
        drawn.append(member.transform(given, labels, fitted, stream(1)))
    torch.testing.assert_close(drawn[0], drawn[1])


def test_guidance_draws_samples_towards_the_condition():
    """What is missing is the class itself, noisy; guided samples of a class lie further out than unguided ones."""
    labels = torch.arange(1000) % 2
    missing = (2.0 * labels[:, None] - 1) + 0.5 * torch.randn(1000, 1, generator=stream())
    given = torch.zeros(1000, 1)
    means = []
    for guidance in (0.0, 2.0):
        options = {"timesteps": 200, "label": True, "guidance": guidance, "drop": 0.3, "steps": 600}
        member = build("impute", {"name": "diffusion", **options})
        state = member.fit(given, missing, labels, stream())
        means.append(member.transform(given[:300], torch.ones(300).long(), state, stream(1)).mean().item())
    assert means[0] == pytest.approx(1.0, abs=0.25)
    assert means[1] > means[0]
