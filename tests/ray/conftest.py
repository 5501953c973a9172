"""One Ray for all Ray tests of a session: its start takes seconds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    import ray

    from parties.ray import start_ray

    start_ray(4 * 2**20, None)
    yield
    ray.shutdown()
