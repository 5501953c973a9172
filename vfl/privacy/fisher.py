"""Fisher information leakage: how closely any unbiased attack can reconstruct features from noised embeddings."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def dfil(embed: Callable[[Tensor], Tensor], rows: Tensor, noise_std: float) -> Tensor:
    """Return the diagonal Fisher information leakage of each row, `(rows,)`, for h = embed(x) + N(0, noise_std^2 I).

    It is tr(J^T J) / (noise_std^2 d), J being the Jacobian of `embed` (`(d,)` to `(width,)`) at the row's d features.
    No unbiased attack reconstructs a row with a mean squared error a feature below 1 / dfil; one with a prior, such as
    the column means, may. Raises `ValueError` without noise: then nothing bounds the attack.

    Reference: K. Maeng, C. Guo, S. Kariyappa, G. E. Suh, Bounding the Invertibility of Privacy-preserving Instance
    Encoding using Fisher Information, NeurIPS 2023, https://arxiv.org/abs/2305.04146
    """
    if not noise_std > 0:
        raise ValueError(f"noise_std: got {noise_std}, allowed any number above 0; without noise there is no bound")
    jacobian = torch.func.vmap(torch.func.jacrev(embed))(rows)
    return jacobian.square().sum(dim=(1, 2)) / (noise_std**2 * rows.shape[1])
