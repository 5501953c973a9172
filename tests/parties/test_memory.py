from __future__ import annotations

import numpy as np

from parties.memory import forget_peak, peak_rss_mb

LARGE_MB = 300


def test_a_peak_is_counted_from_where_it_was_forgotten():
    """A worker that ran a large trial must not report its memory for the small one after it."""
    before = peak_rss_mb()
    np.ones(LARGE_MB * 2**20, np.uint8).sum()
    after = peak_rss_mb()
    assert after > before + 0.5 * LARGE_MB or before > LARGE_MB
    forget_peak()
    assert peak_rss_mb() < after - 0.5 * LARGE_MB
