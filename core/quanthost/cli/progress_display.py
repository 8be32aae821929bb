"""Progress on stderr: live steps with their time on a terminal, one line a finished step elsewhere."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator
from typing import IO

from rich.console import Console
from rich.progress import Progress as Steps
from rich.progress import SpinnerColumn, TaskID, TextColumn

from quanthost.stages.progress import Progress

__all__ = ["LineProgress", "LiveProgress", "show_progress"]

_WIDTH = 10


@contextlib.contextmanager
def show_progress() -> Iterator[Progress]:
    """The progress display for stderr: live on a terminal, lines elsewhere."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield LineProgress(console.file)
        return
    with live_steps(console) as steps:
        yield LiveProgress(steps)


def live_steps(console: Console) -> Steps:
    """One line a step: whether it is done, its name, its seconds, and a note."""
    return Steps(
        SpinnerColumn(finished_text="[green]✓"),
        TextColumn(f"{{task.description:<{_WIDTH}}}"),
        TextColumn("{task.elapsed:7.1f} s"),
        TextColumn("{task.fields[note]}", style="dim"),
        console=console,
    )


class LineProgress:
    """Writes ``capture       1.2 s`` when the step ends."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._note, self._pace = "", _Pace()

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        self._note, self._pace = "", _Pace()
        start = time.perf_counter()
        yield
        seconds = time.perf_counter() - start
        print(f"{name:<{_WIDTH}} {seconds:7.1f} s  {self._note}".rstrip(), file=self._stream, flush=True)

    def batch(self, done: int, total: int | None) -> None:
        self._note = self._pace.note(done, total)

    def note(self, text: str) -> None:
        self._note = text


class LiveProgress:
    """Shows the step that runs with a spinner and a clock, and the batches that are through."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps
        self._task: TaskID | None = None
        self._pace = _Pace()

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        task = self._task = self._steps.add_task(name, total=1, note="")
        self._pace = _Pace()
        try:
            yield
        except BaseException:
            self._steps.update(task, note="failed")
            raise
        else:
            self._steps.update(task, completed=1)
        finally:
            self._steps.stop_task(task)

    def batch(self, done: int, total: int | None) -> None:
        if self._task is not None:
            self._steps.update(self._task, note=self._pace.note(done, total))

    def note(self, text: str) -> None:
        if self._task is not None:
            self._steps.update(self._task, note=text)


class _Pace:
    """Batches that are done, how many a second, and how long the rest will take."""

    def __init__(self) -> None:
        self._start = time.perf_counter()

    def note(self, done: int, total: int | None) -> str:
        """``"12 of 100 batches, 8.3/s, 11 s left"``."""
        rate = done / max(time.perf_counter() - self._start, 1e-9)
        # a loader knows its length, a generator doesn't
        if total is None or done == total:
            return f"{done} batches, {rate:.3g}/s"
        return f"{done} of {total} batches, {rate:.3g}/s, {_duration((total - done) / rate)} left"


def _duration(seconds: float) -> str:
    whole = math.ceil(seconds)
    if whole < 60:
        return f"{whole} s"
    return (
        f"{whole // 60} min {whole % 60} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60} min"
    )
