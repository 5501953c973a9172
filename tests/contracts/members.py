"""One row a registered member: the option sets its contract is run with. A new member adds its row here."""

from __future__ import annotations

from typing import Any

Options = dict[str, Any]

DEFENSES: dict[str, list[Options]] = {
    "adversarial": [{}, {"weight": 2.0, "hidden": 8}],
    "cae": [{}, {"entropy": 0.0}],
    "clipped_gaussian": [{}, {"on": "gradient", "clip_l2": 0.01, "noise_multiplier": 4.0}],
    "clipped_laplace": [{}, {"on": "gradient", "clip_l1": 0.01, "epsilon": 0.1}],
    "dcae": [{}],
    "dcor": [{}, {"protects": "labels", "weight": 1.0}],
    "discrete_grad": [{}, {"bins": 2, "spread": 0.5}],
    "dp_sgd": [{}, {"noise_multiplier": 0.1, "clip_l2": 10.0}],
    "dropout": [{}, {"rate": 0.0}],
    "fedpass": [{}, {"at": "top", "passports": 1}],
    "gaussian_noise": [{}, {"ratio": 0.0}],
    "grad_average": [{}],
    "grad_clip": [{}, {"clip_l2": 1e-3}],
    "grad_compression": [{}, {"keep": 1.0}, {"residual": "row"}],
    "grad_perturb": [{}, {"epsilon": 0.01}],
    "kdk": [{}, {"gap": 0.0}],
    "laplace_noise": [{}, {"ratio": 0.0}],
    "lp_2st": [{}, {"epsilon": 0.1, "first": 0.2, "temperature": 3.0}],
    "marvell": [{}, {"s": 0.25, "uv": "same"}, {"uv": "zero", "decay": 0.0}],
    "max_norm": [{}],
    "mid": [{}, {"at": "top", "weight": 1.0}],
    "mixpro": [{}, {"small": "half", "mean": "mixed", "goal_degrees": 90.0}],
    "pe_loss": [{}, {"softening": 0.01}],
    "ppdl": [{}, {"fraction": 1.0, "threshold": 0.0}],
    "randomized_response": [{}, {"debias": False, "epsilon": 0.1}],
    "rounding": [{}, {"digits": 0}],
    "rr_with_prior": [{}, {"epsilon": 3.0}],
    "tpsl": [{}, {"draw": "once", "epsilon": 0.1}],
}

ALIGNERS: dict[str, list[Options]] = {
    "ecdh_psi": [{}, {"group": "x25519"}],
    "plain": [{}],
    "salted_hash": [{"salt": "pepper"}],
}

ATTACKS: dict[str, list[Options]] = {
    "direction": [{}, {"hints": 5}],
    "norm": [{}, {"positives": "majority"}],
}


def cases(table: dict[str, list[Options]]) -> list[Options]:
    """Return one buildable spec for each member and option set."""
    return [{"name": name, **options} for name, rows in table.items() for options in rows]


def label(spec: Options) -> str:
    """Return a readable test id for a spec."""
    return "-".join(str(value) for value in spec.values())
