"""Ray starts while the data is read: neither waits for the other, and no Ray is left behind."""

from __future__ import annotations

from threading import Event

import pytest

from experiments.starting import beside_ray
from parties import ray
from vfl.errors import DataError

PATIENCE_S = 30


@pytest.fixture
def calls(monkeypatch) -> list[str]:
    """Return what was asked of Ray, which is not there."""
    asked: list[str] = []
    monkeypatch.setattr(ray, "boot", lambda address: (asked.append("boot"), True)[1])
    monkeypatch.setattr(ray, "stop_ray", lambda: asked.append("stop"))
    return asked


def test_each_is_under_way_before_the_other_is_done(monkeypatch, calls: list[str]):
    reads, boots = Event(), Event()

    def boot(address: str | None) -> bool:
        boots.set()
        calls.append("boot")
        assert reads.wait(PATIENCE_S)
        return True

    def read() -> str:
        reads.set()
        assert boots.wait(PATIENCE_S)
        return "data"

    monkeypatch.setattr(ray, "boot", boot)
    found, started = beside_ray(read)
    assert (found, started.owns) == ("data", True)
    started.stop()
    started.stop()
    assert calls == ["boot", "stop"]


def test_a_mistake_that_is_known_at_once_starts_no_ray(monkeypatch, calls: list[str]):
    """The thread that reads is done before Ray is asked for: here because it is the same thread."""
    monkeypatch.setattr("experiments.starting.ThreadPoolExecutor.submit", lambda self, read: _Failed(read))
    with pytest.raises(DataError, match="no such file"):
        beside_ray(_mistaken)
    assert calls == []


def test_a_mistake_that_comes_out_later_stops_the_ray_that_was_started(monkeypatch, calls: list[str]):
    booted = Event()
    monkeypatch.setattr(ray, "boot", lambda address: (calls.append("boot"), booted.set(), True)[2])

    def read() -> None:
        assert booted.wait(PATIENCE_S)
        _mistaken()

    with pytest.raises(DataError, match="no such file"):
        beside_ray(read)
    assert calls == ["boot", "stop"]


def test_a_ray_that_was_there_before_is_left_alone(monkeypatch, calls: list[str]):
    monkeypatch.setattr(ray, "boot", lambda address: False)
    found, started = beside_ray(lambda: "data")
    started.stop()
    assert (found, calls) == ("data", [])


class _Failed:
    def __init__(self, read) -> None:
        try:
            read()
        except DataError as error:
            self._error = error

    def done(self) -> bool:
        return True

    def exception(self) -> DataError:
        return self._error

    def result(self) -> None:
        raise self._error


def _mistaken() -> None:
    raise DataError("no such file")
