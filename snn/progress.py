"""Progress bars that stay quiet where nobody is watching."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any


def progress(iterable: Iterable[Any], description: str, total: int | None = None, initial: int = 0) -> Any:
    """``iterable`` behind a tqdm bar on a terminal, and unchanged in effect elsewhere."""
    from tqdm import tqdm

    return tqdm(
        iterable,
        desc=description,
        total=total,
        initial=initial,
        leave=False,
        dynamic_ncols=True,
        disable=not sys.stderr.isatty(),
    )
