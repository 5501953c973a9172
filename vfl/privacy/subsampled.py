"""The Gaussian mechanism on random subsamples: Renyi accounting by default, and the tighter PRV figure.

Only where rows are sampled by independent coins (Poisson) that the adversary cannot see. Between the parties of a run
everyone sees which rows a batch holds, so nothing exchanged there may be accounted here: `epsilon` asks.
"""

from __future__ import annotations

from typing import Literal

from vfl.errors import ConfigError
from vfl.privacy import gaussian

Accountant = Literal["rdp", "prv"]
_LEAST_NOISE, _WIDEST_NOISE = 0.1, 1e5


def epsilon(
    noise_multiplier: float,
    sample_rate: float,
    steps: int,
    delta: float,
    *,
    accountant: Accountant = "rdp",
    batches_hidden: bool = False,
) -> float:
    """Return the epsilon of `steps` Gaussian sums over Poisson samples, neighbours differing by one row.

    `noise_multiplier` (above 0) is noise std over clipping length, `sample_rate` the chance of a row to be in a batch.
    `rdp` is an upper bound with room, `prv` close to the truth from above. Without sampling the exact figure is given.

    Reference: I. Mironov, K. Talwar, L. Zhang, Renyi Differential Privacy of the Sampled Gaussian Mechanism, 2019,
    https://arxiv.org/abs/1908.10530

    Raises `ConfigError` where `sample_rate` is below 1 and the adversary sees the batches (`batches_hidden` false),
    and for noise too little to be worth a figure.
    """
    if sample_rate == 1:
        try:
            return gaussian.epsilon(gaussian.composed([1 / noise_multiplier] * steps), delta)
        except ValueError as error:
            raise ConfigError(f"got {noise_multiplier}, allowed noise that hides something; {error}") from None
    if not batches_hidden:
        advice = "account every row as sampled, or add --batches-hidden if no adversary ever learns a batch's rows"
        raise ConfigError(
            f"got {sample_rate}, allowed 1 where others see which rows a batch holds; {advice}", key="sample_rate"
        )
    if noise_multiplier < _LEAST_NOISE:
        message = f"got {noise_multiplier}, allowed {_LEAST_NOISE} or more where rows are sampled; add noise"
        raise ConfigError(message, key="noise_multiplier")
    from opacus.accountants import create_accountant

    ours = create_accountant(accountant)
    ours.history = [(noise_multiplier, sample_rate, steps)]
    return float(ours.get_epsilon(delta))


def noise_for(
    target_epsilon: float,
    sample_rate: float,
    steps: int,
    delta: float,
    *,
    accountant: Accountant = "rdp",
    batches_hidden: bool = False,
) -> float:
    """Return a noise multiplier that stays below the target: the least without sampling, else nearly the least.

    With sampling it is at most one part in a thousand above the least, and never below a tenth. Raises `ConfigError`
    as `epsilon` does, and for a target that no multiplier up to 1e5 reaches, or that needs none.
    """
    if sample_rate == 1:
        try:
            return gaussian.noise_std(1.0, target_epsilon, delta, releases=steps) * (1 + 1e-9)
        except ValueError as error:
            raise ConfigError(f"got {target_epsilon}, allowed an epsilon that noise can reach; {error}") from None

    def enough(noise: float) -> bool:
        found = epsilon(noise, sample_rate, steps, delta, accountant=accountant, batches_hidden=batches_hidden)
        return found <= target_epsilon

    low, high = _LEAST_NOISE, 1.0
    while not enough(high):
        low, high = high, 2 * high
        if high > _WIDEST_NOISE:
            raise ConfigError(f"got {target_epsilon}, allowed an epsilon that noise can reach; raise it")
    while high / low > 1.001:
        middle = (low * high) ** 0.5
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
