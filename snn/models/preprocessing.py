"""Whether pictures are prepared as weights that come ready-made were trained on them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

log = logging.getLogger(__name__)

#: Means and standard deviations further apart than this are another convention, not another data set's own.
APART = 0.05
#: What an empty mean or std stands for.
EMPTY = {"mean": [0.0], "std": [1.0]}


def warn_of_other_pictures(
    weights: str, expected: Mapping[str, Any], given: Any, head: bool
) -> dict[str, Any]:
    """Say in which keys of ``dataset`` the pictures are not prepared as the weights have learnt them.

    A head that comes with the weights is going to be measured as it is, so that every difference counts; a network that
    gets a new one is trained on, and only another convention for mean and std is worth a word.

    Args:
        weights: What they are called, for the message.
        expected: Keys of ``dataset`` → what the weights were trained with.
        given: The ``dataset`` section of the config.
        head: Whether their head is kept.

    Returns:
        The keys that differ, with what the weights were trained with.

    Example:
        >>> from types import SimpleNamespace
        >>> given = SimpleNamespace(mean=[0.485, 0.456, 0.406], interpolation="bilinear")
        >>> warn_of_other_pictures("vit", {"mean": [0.5, 0.5, 0.5], "interpolation": "bicubic"}, given, head=False)
        {'mean': [0.5, 0.5, 0.5]}
    """
    other = {
        key: value
        for key, value in expected.items()
        if (head or key in EMPTY) and _differ(value, getattr(given, key) or EMPTY.get(key))
    }
    if other:
        log.warning(
            "%s was trained on pictures prepared otherwise: %s (here %s)",
            weights,
            " ".join(f"dataset.{key}={_written(value)}" for key, value in other.items()),
            ", ".join(_written(getattr(given, key)) for key in other),
        )
    return other


def _differ(theirs: Any, ours: Any) -> bool:
    if not isinstance(theirs, list):
        return bool(theirs != ours)
    ours = list(ours) * (len(theirs) // len(ours))  # one number serves all channels
    return any(abs(x - y) > APART for x, y in zip(theirs, ours, strict=True))


def _written(value: Any) -> str:
    return str(value if isinstance(value, str | int | None) else list(value)).replace(" ", "")
