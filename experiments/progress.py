"""How far a run has come, told to a person on stderr while it runs."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

QUIET_S, BETWEEN_S = 2.0, 5.0
"""Seconds a phase may last without a word, and seconds between its lines where stderr is no terminal."""


class Progress(Protocol):
    """Who is told how a run goes; it never changes the run."""

    def start(self, phase: str, total: int) -> None:
        """Hear that a phase of `total` steps begins; 0 where nobody knows how many."""
        ...

    def advance(self, phase: str, done: int, note: str = "") -> None:
        """Hear that `done` steps of it are done so far, counted from its start; `note` is a few words beside it."""
        ...

    def finish(self, phase: str) -> None:
        """Hear that it is over."""
        ...

    def tell(self, line: str) -> None:
        """Hear a line that is to stay: one of a table that grows while the phase goes on."""
        ...


class Silent:
    """Says nothing."""

    def start(self, phase: str, total: int) -> None:
        """Say nothing."""

    def advance(self, phase: str, done: int, note: str = "") -> None:
        """Say nothing."""

    def finish(self, phase: str) -> None:
        """Say nothing."""

    def tell(self, line: str) -> None:
        """Say nothing."""


@dataclass(slots=True)
class _Phase:
    total: int
    started: float
    spoken: float
    done: int = 0
    note: str = ""


class LineProgress:
    """Writes a plain line for a phase about every five seconds, and none for one shorter than two."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._phases: dict[str, _Phase] = {}

    def start(self, phase: str, total: int) -> None:
        """Note the time; say nothing yet."""
        now = self._clock()
        self._phases[phase] = _Phase(total, now, now + QUIET_S - BETWEEN_S)

    def advance(self, phase: str, done: int, note: str = "") -> None:
        """Write a line where the last one is old enough."""
        state = self._known(phase)
        state.done, state.note = done, note or state.note
        if self._clock() - state.spoken >= BETWEEN_S:
            self._say(phase, state)

    def finish(self, phase: str) -> None:
        """Write the closing line of a phase that was not short."""
        state = self._phases.pop(phase, None)
        if state is not None and self._clock() - state.started >= QUIET_S:
            self._say(phase, state, closing=True)

    def tell(self, line: str) -> None:
        """Write the line."""
        self._stream.write(f"{line}\n")
        self._stream.flush()

    def _known(self, phase: str) -> _Phase:
        if phase not in self._phases:
            self.start(phase, 0)
        return self._phases[phase]

    def _say(self, phase: str, state: _Phase, closing: bool = False) -> None:
        now = self._clock()
        state.spoken = now
        elapsed = now - state.started
        count = f"{state.done}/{state.total}" if state.total else f"{state.done}"
        left = elapsed * (state.total - state.done) / state.done if state.done else 0.0
        words = [f"{phase}: {'done, ' if closing else ''}{count} in {duration(elapsed)}"]
        if left > 0 and not closing:
            words.append(f"about {duration(left)} left")
        if state.note:
            words.append(state.note)
        self._stream.write(", ".join(words) + "\n")
        self._stream.flush()


class BarProgress:
    """Draws one bar a phase on a terminal, with the time left; a context manager, so that the cursor comes back."""

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as RichBars

        self._bars: Bars = RichBars(
            TextColumn("{task.description:<12}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=Console(file=stream),
            expand=True,
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> BarProgress:
        self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._bars.stop()

    def start(self, phase: str, total: int) -> None:
        """Draw the phase's bar, empty; it swings to and fro where nobody knows the total."""
        self._tasks[phase] = self._bars.add_task(phase, total=total or None, note="")

    def advance(self, phase: str, done: int, note: str = "") -> None:
        """Fill the bar up to `done`."""
        if phase not in self._tasks:
            self.start(phase, 0)
        told = {"note": note} if note else {}
        self._bars.update(self._tasks[phase], completed=done, **told)

    def finish(self, phase: str) -> None:
        """Fill the bar and stop its clock."""
        task = self._tasks.pop(phase, None)
        if task is not None:
            bar = self._bars.tasks[self._bars.task_ids.index(task)]
            end = bar.total if bar.total is not None else max(bar.completed, 1)
            self._bars.update(task, total=end, completed=end)
            self._bars.stop_task(task)

    def tell(self, line: str) -> None:
        """Write the line above the bars."""
        self._bars.console.print(line, highlight=False, markup=False)


@contextmanager
def on_stderr(stream: TextIO | None = None) -> Iterator[Progress]:
    """Yield bars where stderr is a terminal, lines where it is not."""
    stream = sys.stderr if stream is None else stream
    if stream.isatty():
        with BarProgress(stream) as bars:
            yield bars
    else:
        yield LineProgress(stream)


def duration(seconds: float) -> str:
    """Return a time as a person says it: `0.4 s`, `12 s`, `3 min 05 s`, `2 h 10 min`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
