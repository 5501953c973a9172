"""What every test relies on: a quiet environment, set before anything is imported, and the folder of data sets."""

from __future__ import annotations

import os

os.environ.update(
    FLWR_TELEMETRY_ENABLED="0",
    FLWR_DISABLE_UPDATE_CHECK="1",
    FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION="1",
    RAY_USAGE_STATS_ENABLED="0",
    RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="0",
    OMP_NUM_THREADS="1",
)

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def vfl_data() -> Path:
    folder = os.environ.get("VFL_DATA", "")
    if not folder or not Path(folder).is_dir():
        pytest.skip("needs data files: set VFL_DATA to the folder of data sets")
    return Path(folder)


@pytest.fixture(scope="session")
def warm_isolation():
    from parties.isolate import Isolation

    with Isolation() as isolation:
        yield isolation


@pytest.fixture
def shared_isolation(warm_isolation, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every run of the test uses one warm server: its start, an import of torch, is most of a small run's time."""
    from contextlib import nullcontext

    monkeypatch.setattr("experiments.run.Isolation", lambda: nullcontext(warm_isolation))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give all Ray tests to one worker, which has the one cluster, and let it begin with them: they take longest."""
    for item in items:
        if item.get_closest_marker("ray"):
            item.add_marker(pytest.mark.xdist_group("ray"))
    items.sort(key=lambda item: item.get_closest_marker("ray") is None)
