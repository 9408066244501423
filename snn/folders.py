"""Replacing a folder as a whole, so that a kill or a full disk leaves the one that was there before."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replaced_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty folder beside ``folder`` that takes its place once the body is done.

    If the body or the exchange raises, ``folder`` is as it was.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as place:
        ...     target = Path(place) / "state"
        ...     with replaced_folder(target) as fresh:
        ...         _ = (fresh / "step").write_text("7")
        ...     (target / "step").read_text()
        '7'
    """
    fresh, old = folder.with_name(f".{folder.name}.new"), _before(folder)
    try:
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        yield fresh
        for path in fresh.iterdir():
            with path.open("rb") as stream:
                os.fsync(stream.fileno())
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)
            folder.rename(old)
        fresh.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        if old.exists() and not folder.exists():
            old.rename(folder)
        raise


def surviving(folder: Path) -> Path:
    """``folder``, or what was there before it if a kill fell between the two renames of an exchange."""
    old = _before(folder)
    return old if old.exists() and not folder.exists() else folder


def _before(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.old")
