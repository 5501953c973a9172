"""Pairwise masks: they cancel in the sum over all, and one summand alone is uniform noise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from vfl.crypto.pairwise import LARGEST, from_fixed, mask, shared_key, to_fixed
from vfl.errors import WireError


def parties(count: int) -> dict[str, dict[str, bytes]]:
    """Return each party's keys with all others, agreed by X25519."""
    names = [f"publisher_{place}" for place in range(count)]
    private = {name: X25519PrivateKey.generate() for name in names}
    publics = {name: key.public_key().public_bytes_raw() for name, key in private.items()}
    return {
        me: {
            other: shared_key(private[me], publics[other], "|".join(sorted((me, other))))
            for other in names
            if other != me
        }
        for me in names
    }


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_masks_of_all_parties_sum_to_zero_and_of_fewer_do_not(count):
    keys = parties(count)
    masks = [mask(name, mine, "5", (16, 4)) for name, mine in keys.items()]
    assert torch.stack(masks).sum(dim=0).abs().max() == 0
    if count > 1:
        assert torch.stack(masks[1:]).sum(dim=0).ne(0).all()


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 5), st.integers(0, 2**40))
def test_the_sum_of_masked_values_is_the_sum_of_values(count, step):
    values = torch.randn(count, 8, 3, generator=torch.Generator().manual_seed(step)) * 100
    keys = parties(count)
    sent = [
        to_fixed(value) + mask(name, keys[name], str(step), (8, 3)) for name, value in zip(keys, values, strict=True)
    ]
    total = from_fixed(torch.stack(sent).sum(dim=0)).double()
    exact = values.double().sum(dim=0)
    assert ((total - exact).abs() <= count * 2.0**-25 + exact.abs() * 2.0**-24).all()


def test_one_summand_is_uniform_whatever_it_hides():
    """All bytes of a masked constant: a chi-square test does not tell them from uniform ones, those of the bare do."""
    keys = parties(3)
    name, mine = next(iter(keys.items()))
    bare = to_fixed(torch.full((4096, 16), 0.5))
    hidden = (bare + mask(name, mine, "9", (4096, 16))).numpy().view(np.uint8).ravel()
    assert chisquare(np.bincount(hidden, minlength=256)).pvalue > 1e-6
    assert chisquare(np.bincount(bare.numpy().view(np.uint8).ravel(), minlength=256)).pvalue < 1e-6


def test_every_step_has_masks_of_its_own():
    name, mine = next(iter(parties(2).items()))
    assert mask(name, mine, "1", (8, 8)).ne(mask(name, mine, "2", (8, 8))).all()


def test_values_beyond_the_range_are_clamped_and_never_overflow():
    assert from_fixed(to_fixed(torch.tensor([1e9, -1e9]))).tolist() == [LARGEST, -LARGEST]
    assert from_fixed(to_fixed(torch.full((2**12,), 1e9)).sum()) == LARGEST * 2**12


@pytest.mark.parametrize("public", [b"", b"\0" * 32])
def test_what_is_no_public_key_is_refused(public):
    with pytest.raises(WireError):
        shared_key(X25519PrivateKey.generate(), public, "a|b")
