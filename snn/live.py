"""A live view of a run in the terminal: its stages, progress, time left, and the figures of the moment.

What is printed or logged meanwhile appears above it. Nothing of it stays when the run is over.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TextIO, TypeGuard

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from snn.progress import Figures, hide, show

_BARS = "▁▂▃▄▅▆▇█"
_REFRESH = 4  # per second
_NBSP = "\N{NO-BREAK SPACE}"


class Bar:
    """One thing in progress.

    Args:
        description: What is being done.
        total: Number of items; ``None``: not known.
        done: Items that had been done before.
        part: Which of how many equal parts this is.
        figures: Says what to show beside it.
    """

    def __init__(
        self, description: str, total: int | None, done: int, part: tuple[int, int], figures: Figures | None
    ):
        self.description, self.total, self.part = description, total, part
        self.first, self.done = done, done
        self.started = time.monotonic()
        self.shown: dict[str, Any] = {}
        self._figures, self._asked = figures, 0.0

    def advance(self) -> None:
        """Count an item; now and then ask for the figures."""
        self.done += 1
        now = time.monotonic()
        if self._figures is not None and now - self._asked > 1 / _REFRESH:
            self.shown, self._asked = dict(self._figures()), now

    def left(self) -> float | None:
        """Seconds left for this and all later parts, if the pace stays; ``None``: not known yet."""
        if self.total is None or self.done == self.first:
            return None
        pace = (time.monotonic() - self.started) / (self.done - self.first)
        number, of = self.part
        return pace * (self.total - self.done + (of - number) * self.total)

    def row(self) -> list[Any]:
        number, of = self.part
        name = self.description + (f" {number}/{of}" if of > 1 else "")
        count = f"{self.done}/{self.total}" if self.total is not None else str(self.done)
        left = self.left()
        bar = ProgressBar(total=self.total, completed=self.done, width=30, pulse=self.total is None)
        return [name, bar, count, "" if left is None else f"{clock(left)} left", _figures(self.shown)]


class LiveView:
    """What a run does, a few lines at the bottom of the terminal.

    Args:
        title: Name of the run.
        stages: What it is going to do, as far as that is known.
    """

    def __init__(self, title: str = "", stages: Sequence[str] = ()):
        # A stream of its own: who records standard error need not record every redrawn line.
        self._file = _same_terminal(sys.stderr)
        self.title, self.started = title, time.monotonic()
        #: Seconds that each stage took; ``None``: it is not over.
        self._stages: dict[str, float | None] = dict.fromkeys(stages)
        self._parts: list[tuple[str, float]] = []
        self._bars: list[Bar] = []
        self._history: dict[str, list[float]] = {}
        self._streams: list[tuple[logging.StreamHandler[Any], Any]] = []
        self._live = Live(
            get_renderable=self._render,
            console=Console(file=self._file),
            refresh_per_second=_REFRESH,
            transient=True,
            # What is piped into a file stays there.
            redirect_stdout=sys.stdout.isatty(),
            redirect_stderr=sys.stderr.isatty(),
        )

    def __enter__(self) -> LiveView:
        terminals = [
            (handler, "stdout" if handler.stream is sys.stdout else "stderr")
            for handler in logging.getLogger().handlers
            if _to_terminal(handler)
        ]
        self._live.start()
        for handler, name in terminals:  # they hold on to the streams of before
            self._streams.append((handler, handler.setStream(getattr(sys, name))))
        show(self)
        return self

    def __exit__(self, *_: object) -> None:
        hide(self)
        for handler, stream in self._streams:
            handler.setStream(stream)
        self._streams.clear()
        self._live.stop()
        self._file.close()

    @contextmanager
    def bar(
        self,
        description: str,
        total: int | None = None,
        initial: int = 0,
        part: tuple[int, int] = (1, 1),
        figures: Figures | None = None,
    ) -> Iterator[Bar]:
        """Show a bar while something goes on; see :func:`snn.progress.progress`."""
        bar = Bar(description, total, initial, part, figures)
        self._bars.append(bar)
        try:
            yield bar
        finally:
            self._bars.remove(bar)

    def enter(self, part: str) -> None:
        """Say what begins: a stage, or a part of one."""
        self._parts.append((part, time.monotonic()))
        if len(self._parts) == 1:
            self._stages.setdefault(part, None)
            self._history.clear()

    def leave(self) -> None:
        """Say that what began last is over."""
        part, began = self._parts.pop()
        if not self._parts:
            self._stages[part] = (self._stages[part] or 0.0) + time.monotonic() - began

    def log(self, metrics: Mapping[str, Any]) -> None:
        """Show the figures of a step; those of its stage make a line."""
        for key, value in metrics.items():
            if isinstance(value, int | float):
                self._history.setdefault(key, []).append(float(value))

    def _render(self) -> Group:
        # Another thread draws: what it looks at twice it takes as it is now.
        lines: list[Any] = []
        bars, parts = list(self._bars), list(self._parts)
        if self.title:
            line = Table.grid(expand=True)
            line.add_column()
            line.add_column(justify="right")
            line.add_row(Text(self.title, style="bold"), Text(clock(time.monotonic() - self.started)))
            lines += [line, self._stage_line(parts[0][0] if parts else None)]
        if bars:
            rows = Table.grid(padding=(0, 2))
            for bar in bars:
                rows.add_row(*bar.row())
            lines.append(rows)
        elif parts:
            part, began = parts[-1]
            lines.append(Text(f"{part}  {clock(time.monotonic() - began)}"))
        curves = self._curves()
        if curves.row_count:
            lines.append(curves)
        return Group(*lines)

    def _stage_line(self, present: str | None) -> Text:
        line = Text()
        for name, seconds in list(self._stages.items()):
            if name == present:
                line.append(f"●{_NBSP}{name}", style="bold cyan")
            elif seconds is not None:
                line.append(f"✓{_NBSP}{name}{_NBSP}{clock(seconds)}", style="green")
            else:
                line.append(f"○{_NBSP}{name}", style="dim")
            line.append("  ")
        return line

    def _curves(self) -> Table:
        """Loss and validation of the present stage, each with its course."""
        table = Table.grid(padding=(0, 2))
        for key, values in list(self._history.items()):
            _, _, name = key.partition("/")
            if name.startswith(("train/", "validation/")):
                table.add_row(name.replace("/", " "), Text(course(values), style="cyan"), number(values[-1]))
        return table


def course(values: Sequence[float], width: int = 30) -> str:
    """The last values as a row of little bars.

    Example:
        >>> course([0.0, 0.5, 1.0])
        '▁▄█'
    """
    shown = [x for x in values[-width:] if x == x]
    low, high = min(shown, default=0.0), max(shown, default=0.0)
    scale = (len(_BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(_BARS[int((x - low) * scale)] for x in shown)


def number(value: Any) -> str:
    """A figure, four digits wide where it has a fraction.

    Example:
        >>> number(0.791234), number(12), number(2e-05), number("low")
        ('0.7912', '12', '2e-05', 'low')
    """
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def clock(seconds: float) -> str:
    """Time as on a clock.

    Example:
        >>> clock(59.7), clock(3661)
        ('0:59', '1:01:01')
    """
    minutes, second = divmod(int(seconds), 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour}:{minute:02}:{second:02}" if hour else f"{minute}:{second:02}"


def _figures(shown: Mapping[str, Any]) -> str:
    return "  ".join(f"{name} {number(value)}" for name, value in shown.items())


def _to_terminal(handler: logging.Handler) -> TypeGuard[logging.StreamHandler[Any]]:
    return isinstance(handler, logging.StreamHandler) and getattr(handler.stream, "isatty", lambda: False)()


def _same_terminal(stream: TextIO) -> TextIO:
    return open(os.dup(stream.fileno()), "w", encoding=stream.encoding, errors="replace")
