"""From events to frames: how many events of each polarity there are at each pixel in each slice of a recording."""

from __future__ import annotations

import numpy as np
import torch

from snn.data.events_files import Events
from snn.errors import DataError

#: Frames are kept in this type; a count that does not fit is refused.
COUNTS = np.uint16


def slices(events: Events, frames: int, by: str) -> np.ndarray:
    """Number of the frame of each event.

    Args:
        events: In the order of time.
        frames: Number of frames.
        by: ``count``: each frame has ``len(events) // frames`` of them, the last one what is left as well; ``time``:
            each covers the same time.

    Example:
        >>> events = Events(*np.array([[0, 1, 2, 3, 4, 90, 100]] * 4))
        >>> slices(events, 3, "count"), slices(events, 2, "time")
        (array([0, 0, 1, 1, 2, 2, 2]), array([0, 0, 0, 0, 0, 1, 1]))
    """
    if by == "count":
        each = max(1, len(events) // frames)
        return np.minimum(np.arange(len(events)) // each, frames - 1)
    start, length = events.t[0], max(1, int(events.t[-1] - events.t[0]))
    return np.minimum((events.t - start) * frames // length, frames - 1)


def to_frames(
    events: Events,
    frames: int,
    by: str,
    sensor: tuple[int, int],
    size: int | None = None,
    resize: str = "sum",
) -> np.ndarray:
    """Count events.

    Args:
        events: In the order of time.
        frames: Number of frames.
        by: See :func:`slices`.
        sensor: Height and width, in pixels.
        size: Height and width of the frames; None: the sensor's.
        resize: ``sum`` or ``bilinear``, see :class:`~snn.data.events_schema.EventsConfig`.

    Shape:
        ``[frames, 2, H, W]``; counts, :data:`COUNTS`, or, interpolated, float16.

    Raises:
        DataError: A pixel that fires more often than can be counted.
    """
    height, width = sensor
    goal = (height, width) if size is None else (size, size)
    x, y = events.x, events.y
    grid = sensor if resize == "bilinear" else goal
    if grid != (height, width):
        x, y = x * grid[1] // width, y * grid[0] // height
    place = ((slices(events, frames, by) * 2 + events.p) * grid[0] + y) * grid[1] + x
    counts = np.bincount(place, minlength=frames * 2 * grid[0] * grid[1]).reshape(frames, 2, *grid)
    if counts.max() > np.iinfo(COUNTS).max:
        raise DataError(
            f"{counts.max()} events at one pixel in one frame: more than can be counted; give more frames"
        )
    if grid == goal:
        return counts.astype(COUNTS)
    smooth = torch.nn.functional.interpolate(
        torch.from_numpy(counts).float(), goal, mode="bilinear", align_corners=True
    )
    return smooth.numpy().astype(np.float16)
