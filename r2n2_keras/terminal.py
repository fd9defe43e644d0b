"""What commands show on a terminal beside plain lines: a progress bar, tables."""

import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

_SECONDS_BETWEEN = 0.2


class Bar:
    """A bar with a text before it, on standard output by default; a context manager.

    Elsewhere than on a terminal nothing is shown.
    """

    def __init__(self, console: Console | None = None, remaining: bool = True):
        self._console = console or Console()
        columns = [TextColumn("{task.description}"), BarColumn(), TaskProgressColumn()]
        if remaining:
            columns += [TimeRemainingColumn(compact=True), TextColumn("left")]
        self._progress = Progress(
            *columns,
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task = None
        self._shown = 0.0

    @property
    def is_shown(self) -> bool:
        """Whether there is a terminal to show it on."""
        return self._console.is_terminal

    def __enter__(self):
        self._progress.start()
        return self

    def __exit__(self, *_):
        self._progress.stop()

    def update(self, done: float, total: float | None, text: str) -> None:
        """Shows how far the work is; `total` is None where that is not known."""
        now = time.monotonic()
        if done != total and now - self._shown < _SECONDS_BETWEEN:
            return
        self._shown = now
        if self._task is None:
            self._task = self._progress.add_task(text, total=total)
        self._progress.update(self._task, completed=done, total=total, description=text)

    def begin(self) -> None:
        """Begins anew, at zero: another stage of the work, with another time that is left."""
        if self._task is not None:
            self._progress.remove_task(self._task)
        self._task, self._shown = None, 0.0

    def counting(self, verb: str):
        """A function of (done, total) that shows such as "Reading 3 of 20"."""
        return lambda done, total: self.update(done, total, f"{verb} {done:,} of {total:,}")

    def say(self, line: str) -> None:
        """Prints a line, above the bar where there is one."""
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


def print_table(header: list[str], rows: list[list[str]], title: str = "", totals: int = 1) -> None:
    """Prints a table of words and numbers; a line stands before its last rows, the totals."""
    table = Table(title=title or None, title_justify="left")
    for number, cells in enumerate(zip(header, *rows, strict=True)):
        table.add_column(
            header[number],
            justify="right" if number else "left",
            min_width=max(len(word) for cell in cells for word in cell.split()),
        )
    for number, row in enumerate(rows, start=1):
        # Not as markup: a cell may hold the name of anybody's folder.
        table.add_row(*map(Text, row), end_section=number == len(rows) - totals)
    # One too wide for the terminal runs over its edge; rich would cut its numbers.
    Console(highlight=False).print(table, crop=False)


def count(number: int, noun: str) -> str:
    """A number of things, in words."""
    return f"{number:,} {noun}" + "s" * (number != 1)
