"""Progress of whatever takes long, in one way: shown where someone is watching, and nothing at all elsewhere."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from snn.live import LiveView

Item = TypeVar("Item")
#: Says what is worth seeing beside the bar; called a few times a second.
Figures = Callable[[], Mapping[str, Any]]

_open: list[LiveView] = []


def progress(
    iterable: Iterable[Item],
    description: str,
    total: int | None = None,
    initial: int = 0,
    part: tuple[int, int] = (1, 1),
    figures: Figures | None = None,
) -> Iterator[Item]:
    """``iterable`` behind a bar where someone is watching, and as it is elsewhere.

    Args:
        iterable: What is gone through.
        description: What is being done.
        total: Number of items, those before ``initial`` included; ``None``: as many as the iterable says.
        initial: Items that had been done before.
        part: Which of how many equal parts this is, such as epochs; the time left is that of all.
        figures: Figures beside the bar.
    """
    if not _open and not watched():
        yield from iterable
        return
    if total is None and isinstance(iterable, Sized):
        total = len(iterable)
    with _view() as view, view.bar(description, total, initial, part, figures) as bar:
        for item in iterable:
            yield item
            bar.advance()


def watched() -> bool:
    """Whether a person sees what this process writes: a terminal, and no worker of a sweep or of several devices."""
    return (
        sys.stderr.isatty()
        and os.environ.get("TERM") not in (None, "", "dumb")
        and multiprocessing.current_process().name == "MainProcess"
        and os.environ.get("LOCAL_RANK", "0") == "0"
    )


def show(view: LiveView) -> None:
    """Let all progress appear in ``view`` until it is closed."""
    _open.append(view)


def hide(view: LiveView) -> None:
    """Undo :func:`show`."""
    _open.remove(view)


def _view() -> Any:
    """The view in force; one for the occasion where there is none."""
    from contextlib import nullcontext

    from snn.live import LiveView

    return nullcontext(_open[-1]) if _open else LiveView()
