"""Progress for a person: a bar in a terminal, a line now and then in a log."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from rich.console import Console
from rich.progress import Progress, ProgressColumn, TaskID

LINE_EVERY_S = 30.0
WHOLE_RUN_S = 1e9


class ProgressBar(Progress):
    """rich's progress bar; lines where its console is no terminal.

    A line comes at a task's first update and last, when it is called something new, and every half a
    minute.
    """

    def __init__(
        self,
        *columns: str | ProgressColumn,
        console: Console,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        # The time left is by the speed since the start: a compression's minutes are not alike.
        super().__init__(
            *columns,
            console=console,
            disable=not console.is_terminal,
            speed_estimate_period=WHOLE_RUN_S,
        )
        self._clock = clock
        self._told: dict[TaskID, tuple[set[str], bool, float]] = {}

    def update(self, task_id: TaskID, **fields: Any) -> None:
        """As rich's."""
        super().update(task_id, **fields)
        if self.disable:
            self._tell(task_id)

    def _tell(self, task_id: TaskID) -> None:
        task = next(task for task in self.tasks if task.id == task_id)
        now = self._clock()
        names, finished, when = self._told.get(task_id, (set(), False, 0.0))
        known = task.description in names and task.finished == finished
        if known and now < when + LINE_EVERY_S:
            return
        self._told[task_id] = names | {task.description}, task.finished, now
        parts = [task.description.strip()]
        if task.total is not None:
            parts.append(f"{task.percentage:.0f} %")
        if task.time_remaining and not task.finished:
            parts.append(f"{timedelta(seconds=round(task.time_remaining))} left")
        self.console.print(", ".join(parts), highlight=False, markup=False, soft_wrap=True)
