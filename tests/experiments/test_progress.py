from __future__ import annotations

import io

import pytest

from experiments.progress import BarProgress, LineProgress, Silent, duration, on_stderr


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def stream():
    return io.StringIO()


def test_a_short_phase_says_nothing(clock, stream):
    progress = LineProgress(stream, clock)
    progress.start("align", 10)
    for done in range(10):
        clock.now += 0.19
        progress.advance("align", done)
    progress.finish("align")
    assert stream.getvalue() == ""


def test_a_long_phase_says_a_line_after_two_seconds_and_then_about_every_five(clock, stream):
    progress = LineProgress(stream, clock)
    progress.start("train", 1000)
    for quarter in range(1, 53):
        clock.now += 0.25
        progress.advance("train", 10 * quarter, f"loss {1 / quarter:.2f}")
    progress.finish("train")
    assert stream.getvalue().splitlines() == [
        "train: 80/1000 in 2.0 s, about 23 s left, loss 0.12",
        "train: 280/1000 in 7.0 s, about 18 s left, loss 0.04",
        "train: 480/1000 in 12 s, about 13 s left, loss 0.02",
        "train: done, 520/1000 in 13 s, loss 0.02",
    ]


def test_a_phase_of_unknown_length_counts_up(clock, stream):
    progress = LineProgress(stream, clock)
    progress.start("psi", 0)
    clock.now += 3
    progress.advance("psi", 7)
    assert stream.getvalue() == "psi: 7 in 3.0 s\n"


@pytest.mark.parametrize("make", [Silent, lambda: LineProgress(io.StringIO()), lambda: BarProgress(io.StringIO())])
def test_phases_that_were_not_started_are_no_error(make):
    progress = make()
    progress.advance("train", 3, "note")
    progress.finish("train")
    progress.finish("train")


def test_bars_show_phases_on_a_terminal(stream):
    stream.isatty = lambda: True
    with on_stderr(stream) as progress:
        assert isinstance(progress, BarProgress)
        progress.start("train", 10)
        progress.advance("train", 4, "loss 0.31")
        progress.finish("train")
        progress.start("psi", 0)
        progress.finish("psi")
    assert "train" in stream.getvalue()
    assert "10/10" in stream.getvalue()


def test_a_line_that_is_to_stay_stands_above_the_bars_and_among_the_lines(stream):
    with on_stderr(stream) as progress:
        progress.tell("seed=0  [0.71]")
    assert stream.getvalue() == "seed=0  [0.71]\n"
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    with on_stderr(terminal) as progress:
        progress.start("sweep", 2)
        progress.tell("seed=0  [0.71]")
    assert "seed=0  [0.71]" in terminal.getvalue()
    assert terminal.getvalue().index("seed=0") < terminal.getvalue().rindex("sweep")


def test_lines_where_stderr_is_no_terminal(stream):
    with on_stderr(stream) as progress:
        assert isinstance(progress, LineProgress)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (0.44, "0.4 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (60, "1 min 00 s"),
        (185, "3 min 05 s"),
        (7800, "2 h 10 min"),
    ],
)
def test_durations(seconds, text):
    assert duration(seconds) == text
