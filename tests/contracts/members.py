"""One row a registered member: the option sets its contract is run with. A new member adds its row here."""

from __future__ import annotations

from typing import Any

Options = dict[str, Any]

DEFENSES: dict[str, list[Options]] = {
    "adversarial": [{}, {"weight": 2.0, "hidden": 8}],
    "cae": [{}, {"entropy": 0.0}],
    "clipped_gaussian": [{}, {"on": "gradient", "clip_l2": 0.01, "noise_multiplier": 4.0}],
    "clipped_laplace": [{}, {"on": "gradient", "clip_l1": 0.01, "epsilon": 0.1}],
    "consistency": [{}, {"act": "repair", "deviations": 0.5, "warm_up": 1}],
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
    "grad_scrutiny": [{}, {"limit": 0.0, "warm_up": 1, "act": "repair"}],
    "grad_perturb": [{}, {"epsilon": 0.01}],
    "kdk": [{}, {"gap": 0.0}],
    "laplace_noise": [{}, {"ratio": 0.0}],
    "lp_2st": [{}, {"epsilon": 0.1, "first": 0.2, "temperature": 3.0}],
    "marvell": [{}, {"s": 0.25, "uv": "same"}, {"uv": "zero", "decay": 0.0}, {"s": 0.1, "sum_kl": 0.5}],
    "max_norm": [{}],
    "mid": [{}, {"at": "top", "weight": 1.0}],
    "mixpro": [{}, {"small": "half", "mean": "mixed", "goal_degrees": 90.0}],
    "multiplicative_noise": [{}, {"scale": 0.0}],
    "norm_check": [{}, {"on": "gradient", "act": "repair", "factor": 1.0, "warm_up": 1}],
    "pe_loss": [{}, {"softening": 0.01}],
    "ppdl": [{}, {"fraction": 1.0, "threshold": 0.0}],
    "randomized_response": [{}, {"debias": False, "epsilon": 0.1}],
    "rounding": [{}, {"digits": 0}],
    "rr_with_prior": [{}, {"epsilon": 3.0}],
    "shredder": [{}, {"weight": 0.0, "bank": 1}],
    "tpsl": [{}, {"draw": "once", "epsilon": 0.1}],
}

ALIGNERS: dict[str, list[Options]] = {
    "ecdh_psi": [{}, {"max_asked": 10_000}],
    "plain": [{}],
    "salted_hash": [{"salt": "pepper"}],
}

ATTACKS: dict[str, list[Options]] = {
    "active_model_completion": [{"steps": 30}],
    "averaging": [{}, {"hints": 20}],
    "attribute_inference": [{"known_rows": 100, "steps": 60}],
    "batch_inversion": [{"steps": 15, "batches": 20}, {"steps": 15, "batches": 20, "top": "trained"}],
    "binary_reconstruction": [{"known_rows": 100}, {"known_rows": 100, "deepest": 8}],
    "clustering": [{}, {"on": "embeddings", "rounds": 0}],
    "decoder": [{"known_rows": 100, "steps": 60}],
    "direct_label_inference": [{}],
    "direction": [{}, {"hints": 5}, {"hints": 5, "measure": "inner_product"}],
    "embedding_extension": [{"steps": 30}, {"steps": 30, "share": 0.25}],
    "equality_solving": [{}],
    "exploit": [{"steps": 30, "hidden": 8}],
    "fsha": [{"known_rows": 100}, {"known_rows": 100, "smoothness": 0.0}],
    "generative_regression": [{"steps": 40}],
    "gradient_replacement": [{}, {"share": 0.5, "watch": 2}],
    "hint_norm": [{}, {"hints": 5}],
    "likelihood_ratio": [{}],
    "membership": [{}],
    "model_completion": [{"steps": 30}, {"steps": 30, "head": "mixmatch"}],
    "model_inversion": [{"steps": 40, "rows": 200}, {"steps": 60, "rows": 200, "access": "black_box"}],
    "norm": [{}, {"positives": "majority"}],
    "property_inference": [{}],
    "psi_size": [{}, {"questions": 300, "epsilon": 1.0, "repeats": 3}],
    "replay_backdoor": [{}, {"watch": 2}],
    "residue": [{}],
    "sabotage": [{}, {"way": "noise"}, {"way": "misaligned"}, {"way": "free_riding", "share": 0.2}],
    "score_leakage": [{}],
    "spectral": [{}],
    "unsplit_inversion": [{"rounds": 3, "rows": 600}],
    "unsplit_label": [{"steps": 30}],
    "villain": [{}, {"watch": 2, "beta": 2.0}],
}

LOGIT_WIDE = {"batch_inversion", "direct_label_inference", "equality_solving", "generative_regression", "residue"}
"""Attacks on embeddings that are logits: their contract is run on a cut one wide."""

ADVERTISER_LOOKS = {
    "attribute_inference": "coloured",
    "binary_reconstruction": "advertiser",
    "decoder": "advertiser",
    "equality_solving": "advertiser",
    "fsha": "advertiser",
    "generative_regression": "advertiser",
    "model_inversion": "advertiser",
    "unsplit_inversion": "advertiser",
}
"""Attacks by the advertiser, and the recorded run that they replay; all others are by a publisher."""

NUMERIC_ONLY = {"equality_solving", "generative_regression"}
"""Attacks on a publisher without categorical columns."""

IMPUTERS: dict[str, list[Options]] = {
    "class_mean": [{}],
    "cvae": [{"steps": 30}, {"steps": 30, "label": True}],
    "diffusion": [{"steps": 30}, {"steps": 30, "label": True, "guidance": 0.5}],
    "gan": [{"steps": 30}, {"steps": 30, "label": True}],
    "knn": [{}],
    "mean": [{}],
    "regression": [{"steps": 30}],
    "zero": [{}],
}

METHODS: dict[str, list[Options]] = {
    "advonly": [{"min_steps": 0}, {"min_steps": 0, "impute": {"name": "regression", "steps": 5}, "refit_every": 4}],
    "celu": [{"cache": 2}],
    "diffu_at": [{"impute": {"name": "diffusion", "steps": 5}}, {"impute": "knn", "cross_fit": True}],
    "fedbcd": [{"local_steps": 3}, {"local_steps": 2, "order": "sequential"}],
    "fedcvt": [{"thresholds": (0.4, 0.4, 0.4), "keys": 64}],
    "fedhssl": [{}],
    "fedud": [{"impute": {"name": "regression", "steps": 5}, "refit_every": 3}],
    "heuristic": [{}],
    "jpl": [{}],
    "local": [{}],
    "local_all": [{}],
    "oracle": [{}],
    "risa": [
        {
            "warm_steps": 8,
            "round_steps": 4,
            "rounds": 2,
            "head_steps": 3,
            "least_precision": 0.5,
            "impute": {"name": "regression", "steps": 5},
        },
        {
            "warm_steps": 4,
            "round_steps": 4,
            "rounds": 2,
            "head_steps": 0,
            "impute": "knn",
            "leftover_labels": "unknown",
            "per_class": True,
            "soft": True,
            "imputed_weight": 0.5,
            "fusion": "yager_symmetric",
            "predict": "fused",
            "share_last": 0.8,
        },
        {
            "warm_steps": 4,
            "round_steps": 4,
            "rounds": 1,
            "head_steps": 2,
            "select_by": "entropy",
            "fusion": "dempster",
            "loss": "mse",
        },
    ],
    "secure_sum": [{}],
    "ss_vfl": [{}],
    "vanilla": [{}],
    "vfl_mpd": [{}],
}


def cases(table: dict[str, list[Options]]) -> list[Options]:
    """Return one buildable spec for each member and option set."""
    return [{"name": name, **options} for name, rows in table.items() for options in rows]


def label(spec: Options) -> str:
    """Return a readable test id for a spec."""
    return "-".join(str(value) for value in spec.values())
