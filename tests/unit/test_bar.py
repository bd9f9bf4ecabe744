from __future__ import annotations

import io

from rich.console import Console

from compressor.bar import LINE_EVERY_S, ProgressBar


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def log_of(clock: Clock) -> tuple[ProgressBar, io.StringIO]:
    written = io.StringIO()
    return ProgressBar(console=Console(file=written, width=80), clock=clock), written


def test_a_log_gets_a_line_when_a_task_begins_and_ends_and_now_and_then() -> None:
    clock = Clock()
    bar, written = log_of(clock)
    with bar:
        task = bar.add_task("calibrate", total=1.0)
        for second in range(int(2.5 * LINE_EVERY_S)):
            clock.now = float(second)
            bar.update(task, completed=second / 1000)
        bar.update(task, completed=1.0)
    lines = [line.split(",")[:2] for line in written.getvalue().splitlines()]
    assert lines == [["calibrate", f" {percent} %"] for percent in (0, 3, 6, 100)]


def test_a_new_name_is_told_at_once() -> None:
    bar, written = log_of(Clock())
    with bar:
        task = bar.add_task("start it", total=None)
        for name in ("loading", "loading", "ready", "loading"):
            bar.update(task, description=name)
    assert written.getvalue().splitlines() == ["loading", "ready"]


def test_a_terminal_gets_a_bar_and_no_lines() -> None:
    written = io.StringIO()
    console = Console(file=written, force_terminal=True, width=80)
    with ProgressBar("{task.description}", console=console) as bar:
        bar.update(bar.add_task("score", total=1.0), completed=0.5)
    assert "score, 50 %" not in written.getvalue()
    assert "score" in written.getvalue()
