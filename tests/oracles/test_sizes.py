"""What answers of sizes alone give away, against a partner that tells nothing else."""

from __future__ import annotations

import math

import numpy as np
import pytest

from vfl.attacks._sizes import members_by_size

IDS = [f"user-{place:04d}" for place in range(1024)]


@pytest.mark.parametrize("members", [0, 1, 7, 40, 1024])
def test_every_member_is_found_by_about_k_log_n_over_k_questions(members):
    held = {IDS[place] for place in np.random.default_rng(members).permutation(len(IDS))[:members]}
    found, asked = members_by_size(IDS, lambda part: len(held & set(part)))
    assert found == held
    k = max(members, 1)
    assert asked <= 1 + 2 * k * math.log2(len(IDS) / k) + 2 * k


def test_a_noised_size_protects_one_answer_and_not_many():
    """Sizes under the geometric mechanism of epsilon 1: one answer each misleads, the mean of 200 does not."""
    held, stream = set(IDS[100:110]), np.random.default_rng(0)

    def noised(part):
        p = 1 - math.exp(-1.0)
        return len(held & set(part)) + stream.geometric(p) - stream.geometric(p)

    once, _ = members_by_size(IDS[:256], noised)
    often, asked = members_by_size(IDS[:256], noised, repeats=200)
    assert once != held
    assert often == held
    assert asked % 200 == 0


def test_nothing_is_asked_about_nobody():
    assert members_by_size([], lambda part: 0) == (set(), 0)
