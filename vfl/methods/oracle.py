"""What could be had if every row were aligned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from vfl.methods.vanilla import Vanilla


@dataclass(frozen=True)
class Oracle(Vanilla):
    """`vanilla` on all training rows, as if no row were lost to alignment: an upper bound, which no company can reach.

    The run's `align.overlap` is taken for 1; test and validation rows are those of any other method.

    Reference: Penghui Wei, Hongjian Dou, Shaoguo Liu, Rongjun Tang, Li Liu, Liang Wang, Bo Zheng, FedAds: A Benchmark
    for Privacy-Preserving CVR Estimation with Vertical Federated Learning, SIGIR 2023,
    https://arxiv.org/abs/2305.08328 (it has a bound of this name; that it means this is our reading)
    """

    all_aligned: ClassVar[bool] = True
